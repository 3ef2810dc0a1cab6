"""Execute the course's notebooks in order and normalise them: `python tests/notebooks.py [NAME ...]` (make notebooks).

Normalised means: the same run gives the same file. Execution counts run 1, 2, 3 ...; times, stderr, progress bars and
live-widget state are gone; the kernel has its generic name; cells are numbered. The measured time of each chapter goes
into its first cell, and from there into the table of the README.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = {"tags"}
MARKS = "<!-- chapters: written by make notebooks -->", "<!-- end of chapters -->"


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


def title(nb: nbformat.NotebookNode) -> str:
    """The chapter's question."""
    return nb.cells[0].source.splitlines()[0].removeprefix("# ")


def measured(nb: nbformat.NotebookNode) -> str:
    """The time that stands in the chapter's first cell."""
    return re.search(r"\*Time: ([^*]*)\.\*", nb.cells[0].source).group(1)


def note_time(nb: nbformat.NotebookNode, seconds: float) -> None:
    """Write the measured time into the first cell, rounded up to five seconds: it should not change with every run."""
    text = f"*Time: {5 * -(-seconds // 5):.0f} s on {os.cpu_count()} CPU cores.*"
    nb.cells[0].source = re.sub(r"\*Time: [^*]*\*", text, nb.cells[0].source, count=1)


def chapter_table() -> str:
    """The README's table: each notebook's question and measured time."""
    rows = ["| chapter | the question | time |", "|---|---|---|"]
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        rows.append(f"| [{path.stem}](notebooks/{path.name}) | {title(nb)} | {measured(nb)} |")
    return "\n".join(rows)


def update_readme() -> None:
    """Put the table between its two markers in the README."""
    readme = ROOT / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    readme.write_text(f"{head}{MARKS[0]}\n{chapter_table()}\n{MARKS[1]}{tail}", encoding="utf-8")


def execute(path: Path, timeout: int = 600) -> float:
    """Run one notebook from its first cell to its last, in a fresh kernel; write it back normalised. Seconds taken."""
    nb = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    NotebookClient(nb, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    seconds = time.perf_counter() - start
    note_time(nb, seconds)
    nbformat.write(normalise(nb), path)
    return seconds


if __name__ == "__main__":
    names = sys.argv[1:]
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or any(notebook.stem.startswith(name) for name in names):
            print(f"{notebook.name}: {execute(notebook):.1f} s, {notebook.stat().st_size / 1000:.0f} kB", flush=True)
    update_readme()
