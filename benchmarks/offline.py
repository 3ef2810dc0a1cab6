"""The proof that a bundle needs no network: `python benchmarks/offline.py [ARCHIVE]` prints its size and seconds.

Without ARCHIVE `make bundle` packs one first. It is unpacked into an empty folder, and used in a network namespace that
has nothing but loopback (Linux, with unshare and ip), without any settings of pip: `make lab` sets up and starts
JupyterLab, `learn-diffusion doctor` checks everything, and a chapter runs. The first failure ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tools.tables import Table, markdown

ROOT = Path(__file__).resolve().parent.parent
# --kill-child: what a step has started ends with it
CUT_OFF = ("unshare", "--net", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec",
           'ip link set lo up; ! ip route get 192.0.2.1 2>/dev/null; exec "$@"', "sh")  # fmt: skip
LAB = ["make", "lab", f"PYTHON={sys.executable}"]
# JupyterLab until its page is there; a new namespace has ports of its own
ANSWERS = """
import subprocess, sys, time, urllib.request
server = subprocess.Popen([*sys.argv[1:], "ARGS=--no-browser --port=8888 --IdentityProvider.token=offline"])
while server.poll() is None:
    try:
        page = urllib.request.urlopen("http://127.0.0.1:8888/lab?token=offline", timeout=60).read()
        sys.exit(b"jupyter-config-data" not in page)
    except OSError:
        time.sleep(0.5)
sys.exit("JupyterLab did not start")
"""
STEPS = {
    "make lab: set up": [*LAB, "ARGS=--version"],
    "make lab: JupyterLab answers": [sys.executable, "-c", ANSWERS, *LAB],
    "learn-diffusion doctor": [".venv/bin/learn-diffusion", "doctor"],
    "01_adding_noise runs": [".venv/bin/jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout",
                             "--log-level=WARN", "notebooks/01_adding_noise.ipynb"],
}  # fmt: skip


def main() -> None:
    if sys.argv[1:]:
        archive = Path(sys.argv[1])
    else:
        subprocess.run(["make", "bundle"], cwd=ROOT, check=True)
        archive = max((ROOT / "dist").glob("learn_diffusion-*.zip"), key=lambda path: path.stat().st_mtime)
    notes = [f"{archive.name}: {archive.stat().st_size / 1e6:,.0f} MB"]
    table = Table("With the network off", ["what", "seconds"], notes=notes)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "XDG_"))}
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as whole:
            whole.extractall(folder)
        course = Path(folder) / "learn_diffusion"
        environment = {**kept, "HOME": folder, "PIP_CONFIG_FILE": os.devnull, "TORCH_INDEX": ""}
        for what, command in STEPS.items():
            begun = time.perf_counter()
            subprocess.run([*CUT_OFF, *command], cwd=course, env=environment, stdout=subprocess.DEVNULL, check=True)
            table.rows.append((what, time.perf_counter() - begun))
        size = sum(path.stat().st_size for path in course.rglob("*") if path.is_file()) / 1e6
    notes.append(f"{size:,.0f} MB on disk afterwards")
    print(markdown(table))


if __name__ == "__main__":
    main()
