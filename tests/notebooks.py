"""Execute the course's notebooks in order and normalise them: `python tests/notebooks.py [NAME ...]` (make notebooks).

Normalised means: the same run gives the same file. Execution counts run 1, 2, 3 ...; times, stderr, progress bars and
live-widget state are gone; the kernel has its generic name; cells are numbered.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = {"tags"}


def normalise(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same notebook without what differs from run to run; normalise(normalise(nb)) == normalise(nb)."""
    nb = nbformat.from_dict(nb)
    nb.metadata = nbformat.from_dict(KERNEL)
    nb.nbformat, nb.nbformat_minor = 4, 5
    count = 0
    for i, cell in enumerate(nb.cells):
        cell.id = f"cell-{i:02}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = [out for out in map(_normalise_output, cell.outputs) if out is not None]
        for out in cell.outputs:
            if out.output_type == "execute_result":
                out.execution_count = count
    return nb


def _normalise_output(out: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    if out.output_type == "stream":
        return None if out.name == "stderr" else out
    if out.output_type in ("display_data", "execute_result"):
        live = out.data.pop(WIDGET, None)
        out.metadata = nbformat.from_dict({})
        if live and "text/html" not in out.data:
            return None  # a progress bar, or another widget that is nothing without a kernel
        if "text/plain" in out.data:
            out.data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", out.data["text/plain"])
    return out


def execute(path: Path, timeout: int = 600) -> float:
    """Run one notebook from its first cell to its last, in a fresh kernel; write it back normalised. Seconds taken."""
    nb = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    NotebookClient(nb, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    seconds = time.perf_counter() - start
    nbformat.write(normalise(nb), path)
    return seconds


if __name__ == "__main__":
    names = sys.argv[1:]
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or any(notebook.stem.startswith(name) for name in names):
            print(f"{notebook.name}: {execute(notebook):.1f} s, {notebook.stat().st_size / 1000:.0f} kB", flush=True)
