"""A classroom on one machine: one JupyterLab server, and many kernels that run chapters at the same time.

    python benchmarks/classroom.py --kernels 20

Every student has a kernel of their own, asks the server for it as a browser does, and runs the chapters from the first
to the last cell, all at once. Nobody stops to read, so this is the worst hour a server can have. It is done with one
thread a kernel, and, with few kernels, with the threads that torch takes by itself: these keep their core busy while
they wait for each other. The table is kept in benchmarks/results/classroom.json, after each of its rows.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest import mock

import nbformat
import psutil
import websocket
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from tools.browser import Lab, jupyter_lab
from tools.tables import Table, machine, markdown, write

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent / "notebooks"

PICTURES = ("image/png", "image/svg+xml", "text/html")


@dataclass
class Seat:
    """What one student saw."""

    first_picture: list[float] = field(default_factory=list)  # seconds from the start of each chapter
    whole: list[float] = field(default_factory=list)  # seconds of each chapter
    trouble: str = ""


async def student(chapters: list[Path], seat: Seat, patience: int) -> None:
    """Run the chapters one after the other, each in a fresh kernel."""
    for path in chapters:
        nb = nbformat.read(path, as_version=4)
        begun, seen = time.perf_counter(), []

        def look(cell, cell_index, execute_reply, begun=begun, seen=seen) -> None:
            shown = (kind for out in cell.outputs for kind in out.get("data", {}))
            if not seen and any(kind in PICTURES for kind in shown):
                seen.append(time.perf_counter() - begun)

        client = NotebookClient(
            nb, timeout=patience, startup_timeout=patience, kernel_name="python3", on_cell_executed=look,
            kernel_manager_class=GatewayKernelManager,
        )  # fmt: skip
        try:
            await client.async_execute()
        except (CellExecutionError, DeadKernelError, TimeoutError, RuntimeError, OSError) as error:
            seat.trouble = f"{path.stem}: {type(error).__name__}: {str(error)[-500:]}"
            return
        seat.first_picture += seen[:1]
        seat.whole.append(time.perf_counter() - begun)


def kernels() -> Iterator[psutil.Process]:
    """The kernels that this program has started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "ipykernel_launcher" in " ".join(process.cmdline()):
                yield process


async def watch(peaks: dict[int, int], together: list[int], every: float = 2.0) -> None:
    """Keep the largest memory of each kernel, and of all together. What they share (libraries) is shared out."""
    while True:
        now = {}
        for process in kernels():
            with suppress(psutil.Error):
                memory = process.memory_full_info()
                now[process.pid] = getattr(memory, "pss", memory.uss)
        for pid, size in now.items():
            peaks[pid] = max(size, peaks.get(pid, 0))
        together.append(sum(now.values()))
        await asyncio.sleep(every)


async def lesson(n: int, chapters: list[Path], patience: int) -> tuple[list[Seat], dict[int, int], int, float]:
    """n students at once: what they saw, the peak of each kernel, of all together, and the seconds it took."""
    seats, peaks, together = [Seat() for _ in range(n)], {}, []
    watcher = asyncio.create_task(watch(peaks, together))
    begun = time.perf_counter()
    await asyncio.gather(*(student(chapters, seat, patience) for seat in seats))
    watcher.cancel()
    return seats, peaks, max(together), time.perf_counter() - begun


def held(n: int, threads: str, chapters: list[Path], patience: int) -> tuple[list[Seat], dict[int, int], int, float]:
    """A lesson behind a server of its own, whose kernels have so many threads ("": torch's choice)."""
    os.environ.pop("OMP_NUM_THREADS", None)
    if threads:
        os.environ["OMP_NUM_THREADS"] = threads
    with tempfile.TemporaryDirectory() as folder, jupyter_lab(Path(folder)) as lab, calls_to(lab, patience):
        return asyncio.run(lesson(n, chapters, patience))


@contextmanager
def calls_to(lab: Lab, patience: int) -> Iterator[None]:
    """Inside this block kernels are those of the server. Its token goes with the sockets too: the client forgets it."""
    GatewayClient.clear_instance()
    client = GatewayClient.instance(url=lab.url, auth_token=lab.token, request_timeout=float(patience))
    client.init_connection_args()
    header = {"Authorization": f"token {lab.token}"}
    with mock.patch.object(
        websocket, "create_connection", functools.partial(websocket.create_connection, header=header)
    ):
        yield


def row(n: int, threads: str, found: tuple[list[Seat], dict[int, int], int, float], chapters: int) -> list:
    """A row of the table."""
    seats, peaks, together, took = found
    done = [seat for seat in seats if len(seat.whole) == chapters]
    pictures = [seat.first_picture[0] for seat in seats if seat.first_picture]
    return [
        n, threads, len(done), n - len(done), max(peaks.values()) / 1e6, together / 1e9,
        median(pictures), max(pictures), took / 60,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, nargs="+", default=[1, 4, 20], help="students at once")
    parser.add_argument("--own-threads", type=int, default=4, help="up to so many, torch's choice is tried, too")
    parser.add_argument("--chapters", nargs="+", default=["00", "01", "03"], help="that each of them runs")
    parser.add_argument("--patience", type=int, default=1800, help="seconds that a cell may take")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file")
    args = parser.parse_args()
    chapters = [path for number in args.chapters for path in NOTEBOOKS.glob(f"{number}_*.ipynb")]
    memory = psutil.virtual_memory().total / 1e9
    table = Table(
        f"Chapters {', '.join(args.chapters)} on {machine()}, {memory:.0f} GB",
        ("kernels", "threads a kernel", "finished", "failed", "MB a kernel, at most", "GB together, at most",
         "s to the first picture, median", "the slowest", "minutes in all"),
        notes=["kernels of one JupyterLab server, which all start at once and run every cell without a pause",
               "memory: proportional set size of the kernels; the server itself has some 100 MB",
               "seconds to the first picture: from the start of the kernel for the first of the chapters"],
    )  # fmt: skip
    shown = f"python benchmarks/classroom.py --kernels {' '.join(map(str, args.kernels))}"
    begun = time.perf_counter()
    for n in args.kernels:
        for threads in ("1", "") if n <= args.own_threads else ("1",):
            found = held(n, threads, chapters, args.patience)
            table.rows.append(row(n, threads or "torch's choice", found, len(chapters)))
            print(markdown(table), end="\n\n", flush=True)
            for seat in found[0]:
                if seat.trouble:
                    print(f"  {seat.trouble}")
            write(args.out / "classroom.json", shown, [table], time.perf_counter() - begun)


if __name__ == "__main__":
    main()
