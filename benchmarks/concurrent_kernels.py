"""A classroom on one machine: one JupyterLab server, and many kernels that run chapters at the same time.

    python benchmarks/concurrent_kernels.py --kernels 20

Every student's kernel belongs to one server and runs the chapters from the first to the last cell, all at once and
without a pause: the worst case. It is measured with one thread a kernel and, with few kernels, with the threads that
torch takes by itself. The table is stored in benchmarks/results/concurrent_kernels.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from unittest import mock

import nbformat
import psutil
import websocket
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient

from tools.browser import jupyter_lab
from tools.tables import Table, machine, markdown, write

HERE = Path(__file__).resolve().parent
PICTURES = {"image/png", "image/svg+xml", "text/html"}
CELL = 1800  # seconds that a cell may take


async def student(chapters: list[Path]) -> float:
    """Run the chapters one after the other, each in a fresh kernel; the seconds to the first picture."""
    begun, first = time.perf_counter(), []

    def look(cell, **_) -> None:
        if any(PICTURES & out.get("data", {}).keys() for out in cell.outputs):
            first.append(time.perf_counter() - begun)

    for path in chapters:
        nb = nbformat.read(path, as_version=4)
        await NotebookClient(
            nb, timeout=CELL, startup_timeout=CELL, kernel_name="python3", kernel_manager_class=GatewayKernelManager,
            on_cell_executed=look,
        ).async_execute()  # fmt: skip
    return first[0]


async def watch(peaks: dict[int, int], together: list[int]) -> None:
    """Record the peak memory of each kernel, and of all together. What they share (libraries) is divided."""
    while True:
        now = {}
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "ipykernel_launcher" in " ".join(process.cmdline()):
                    memory = process.memory_full_info()
                    now[process.pid] = getattr(memory, "pss", memory.uss)
        for pid, size in now.items():
            peaks[pid] = max(size, peaks.get(pid, 0))
        together.append(sum(now.values()))
        await asyncio.sleep(2)


async def lesson(n: int, chapters: list[Path]) -> list:
    """n students at once: the cells of a row."""
    peaks, together = {}, []
    watcher = asyncio.create_task(watch(peaks, together))
    begun = time.perf_counter()
    seen = await asyncio.gather(*(student(chapters) for _ in range(n)), return_exceptions=True)
    watcher.cancel()
    failed = [end for end in seen if isinstance(end, BaseException)]
    for end in failed:
        traceback.print_exception(end)
    first = [end for end in seen if end not in failed]
    return [
        len(first), len(failed), max(peaks.values()) / 1e6, max(together) / 1e9, median(first), max(first),
        (time.perf_counter() - begun) / 60,
    ]  # fmt: skip


def on_a_server(n: int, threads: str, chapters: list[Path]) -> list:
    """A lesson on a server of its own, whose kernels have so many threads ("": torch's choice)."""
    os.environ.pop("OMP_NUM_THREADS", None)
    if threads:
        os.environ["OMP_NUM_THREADS"] = threads
    with tempfile.TemporaryDirectory() as folder, jupyter_lab(Path(folder)) as lab:
        GatewayClient.clear_instance()
        client = GatewayClient.instance(url=lab.url, auth_token=lab.token, request_timeout=float(CELL))
        client.init_connection_args()
        # the client sends its token with every request but those that open a socket
        connect = partial(websocket.create_connection, header={"Authorization": f"token {lab.token}"})
        # and asks its queues for messages without a pause: in a lesson the browsers have processors of their own
        sleep = asyncio.sleep
        with (
            mock.patch.object(websocket, "create_connection", connect),
            mock.patch.object(asyncio, "sleep", lambda delay, result=None: sleep(max(delay, 0.05), result)),
            # asked of a slow kernel by a name that the manager of a server lacks
            mock.patch.object(GatewayKernelManager, "_async_is_alive", GatewayKernelManager.is_alive),
        ):
            return asyncio.run(lesson(n, chapters))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, nargs="+", default=[1, 4, 20], help="students at once")
    parser.add_argument("--chapters", nargs="+", default=["00", "01", "03"], help="that each of them runs")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file")
    args = parser.parse_args()
    chapters = [path for number in args.chapters for path in (HERE.parent / "notebooks").glob(f"{number}_*.ipynb")]
    table = Table(
        f"Chapters {', '.join(args.chapters)} on {machine()}, {psutil.virtual_memory().total / 1e9:.0f} GB",
        ("kernels", "threads a kernel", "finished", "failed", "MB a kernel, at most", "GB together, at most",
         "s to the first picture, median", "the slowest", "minutes in all"),
        notes=["kernels of one JupyterLab server, which all start at once and run every cell without a pause",
               "memory: proportional set size of the kernels; the server itself has some 100 MB",
               "seconds to the first picture: from the start of the kernel for the first of the chapters"],
    )  # fmt: skip
    command = f"python benchmarks/concurrent_kernels.py --kernels {' '.join(map(str, args.kernels))}"
    begun = time.perf_counter()
    for n in args.kernels:
        for threads in ("1", "") if n <= 4 else ("1",):
            table.rows.append([n, threads or "torch's choice", *on_a_server(n, threads, chapters)])
            print(markdown(table), end="\n\n", flush=True)
            write(args.out / "concurrent_kernels.json", command, [table], time.perf_counter() - begun)


if __name__ == "__main__":
    main()
