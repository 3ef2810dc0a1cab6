"""The proof that a bundle needs no network: `python benchmarks/offline.py [ARCHIVE]` prints what it holds and takes.

Without ARCHIVE `make bundle` packs one first. It is unpacked into an empty folder, in a network namespace that has
nothing but this machine's own loopback (Linux, with unshare and ip), and with no settings of pip's: there `make lab`
sets up and starts JupyterLab, `learn-diffusion doctor` looks at everything, and a chapter runs. What fails ends it.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from tools.tables import Table, markdown

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = "notebooks/01_adding_noise.ipynb"
PORT = 8888  # free: a new namespace has ports of its own
PATIENCE = 300  # seconds for JupyterLab to start on a busy machine


def packed() -> Path:
    """The archive that make bundle writes."""
    subprocess.run(["make", "bundle"], cwd=ROOT, check=True)
    return max((ROOT / "dist").glob("learn_diffusion-*.zip"), key=lambda path: path.stat().st_mtime)


def contents(archive: Path) -> list[list]:
    """Rows of a table: how many files of each kind, and their MB as packed."""
    kinds = {"archive": (0, archive.stat().st_size), "wheels": (0, 0), "website": (0, 0), "course": (0, 0)}
    with zipfile.ZipFile(archive) as whole:
        for info in whole.infolist():
            inside = info.filename.partition("/")[2]
            kind = {"wheels/": "wheels", "book/_b": "website"}.get(inside[:7], "course")
            for name in ("archive", kind):
                files, size = kinds[name]
                kinds[name] = files + (not info.is_dir()), size + (name != "archive") * info.compress_size
    return [[name, files, size / 1e6] for name, (files, size) in kinds.items()]


def namespace(command: list[str]) -> list[str]:
    """The command that runs another where nothing but loopback can be reached."""
    if missing := [name for name in ("unshare", "ip") if shutil.which(name) is None]:
        raise SystemExit(f"{missing[0]}: not found; this proof needs Linux, with util-linux and iproute2")
    mine = [] if os.getuid() == 0 else ["--map-root-user"]
    return ["unshare", "--net", *mine, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]


def settings(home: Path) -> dict[str, str]:
    """An environment without pip's settings and caches, and with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "XDG_"))}
    return {**kept, "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "TORCH_INDEX": ""}


def cut_off() -> None:
    """Raises SystemExit where another machine could be reached."""
    with socket.socket() as probe:
        found = probe.connect_ex(("192.0.2.1", 80))  # kept for documentation: nobody's address
    if found != errno.ENETUNREACH:
        raise SystemExit(f"expected no route to any network, got {errno.errorcode.get(found, found)}")


def start_and_stop(make: list[str]) -> None:
    """JupyterLab by make lab, until its page is there; then it is shut down."""
    arguments = f"--no-browser --port={PORT} --ServerApp.port_retries=0 --IdentityProvider.token=offline"
    with subprocess.Popen([*make, f"ARGS={arguments}"], stdout=sys.stderr) as server:
        deadline = time.monotonic() + PATIENCE
        while b"jupyter-config-data" not in _page("lab?token=offline"):
            if server.poll() is not None or time.monotonic() > deadline:
                server.terminate()
                raise SystemExit("JupyterLab did not start: see above")
            time.sleep(0.2)
        _page("api/shutdown?token=offline", "POST")


def _page(path: str, method: str = "GET") -> bytes:
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/{path}", method=method)
        return urllib.request.urlopen(request, timeout=60).read()
    except OSError:
        return b""  # not listening yet


def inside(course: Path) -> None:
    """What a student does, with the network off: prints the seconds of each step as JSON."""
    cut_off()
    os.chdir(course)
    run = lambda *command: lambda: subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: E731
    make = ["make", "lab", f"PYTHON={sys.executable}"]
    steps: dict[str, Callable[[], object]] = {
        "make lab: set up": run(*make, "ARGS=--version"),
        "make lab: JupyterLab answers, and stops": lambda: start_and_stop(make),
        "learn-diffusion doctor": run(".venv/bin/learn-diffusion", "doctor"),
        f"{Path(CHAPTER).stem} runs": run(
            *(".venv/bin/jupyter", "nbconvert", "--log-level=WARN", "--to", "notebook", "--execute"),
            *("--output-dir", tempfile.mkdtemp(dir=course.parent), CHAPTER),
        ),
    }
    taken = []
    for what, step in steps.items():
        begun = time.perf_counter()
        step()
        taken.append([what, time.perf_counter() - begun])
    print(json.dumps(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", nargs="?", type=Path, help="what make bundle wrote; packed now without it")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # the second half, in the namespace
    args = parser.parse_args()
    if args.inside:
        return inside(args.inside)
    begun, archive = time.perf_counter(), args.archive or packed()
    steps = [] if args.archive else [["make bundle", time.perf_counter() - begun]]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with zipfile.ZipFile(archive) as whole:
            whole.extractall(folder)
        steps.append(["unpack", time.perf_counter() - begun])
        course = Path(folder) / "learn_diffusion"
        command = namespace([sys.executable, str(Path(__file__).resolve()), "--inside", str(course)])
        done = subprocess.run(command, env=settings(Path(folder)), stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit("The bundle does not work without a network: see above.")
        steps += json.loads(done.stdout)
        size = sum(path.stat().st_size for path in course.rglob("*") if path.is_file()) / 1e6
    print(markdown(Table(f"In {archive.name}", ["what", "files", "MB"], contents(archive))), end="\n\n")
    print(markdown(Table("With the network off", ["what", "seconds"], steps, [f"{size:,.0f} MB on disk afterwards"])))


if __name__ == "__main__":
    main()
