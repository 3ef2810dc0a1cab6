"""Execute the course's notebooks, each alone: `python -m tools.notebooks [--timings | --normalise] [NAME ...]`.

Each runs in a fresh kernel and in an empty temporary folder, so that none can lean on another or on the checkout. What
it took, in seconds and memory, is printed as a table, and goes into its first cell and from there into the README.
Without --timings (make notebooks) the outputs are stored too, normalised: the same run gives the same file. Execution
counts run 1, 2, 3 ...; times, stderr, progress bars and live-widget state are gone; the kernel has its generic name;
cells are numbered. --normalise runs nothing, and brings what is stored into that form.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient

from tools import ROOT

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
        cell.outputs = _joined(out for out in map(_normalise_output, cell.outputs) if out is not None)
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


def _joined(outputs: Iterable[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Printed lines in one piece: on a slow machine they arrive in several."""
    joined = []
    for out in outputs:
        before = joined[-1] if joined else None
        if before is not None and out.output_type == before.output_type == "stream" and out.name == before.name:
            before.text += out.text
        else:
            joined.append(out)
    return joined


def title(nb: nbformat.NotebookNode) -> str:
    """The chapter's question: its first line is "# NN Topic: question?"."""
    question = nb.cells[0].source.splitlines()[0].split(": ", 1)[1]
    return question[0].upper() + question[1:]


def measured(nb: nbformat.NotebookNode) -> str:
    """The time and memory that stand in the chapter's first cell."""
    return re.search(r"\*Time: ([^*]*)\.\*", nb.cells[0].source).group(1)


def note(nb: nbformat.NotebookNode, seconds: float, gigabytes: float) -> None:
    """Write what was measured into the first cell, rounded up: it should not change with every run."""
    took = f"{5 * -(-seconds // 5):.0f} s and {-(-10 * gigabytes // 1) / 10:.1f} GB of memory"
    text = f"*Time: {took} on {os.cpu_count()} CPU cores.*"
    nb.cells[0].source = re.sub(r"\*Time: [^*]*\*", text, nb.cells[0].source, count=1)


def chapter_table() -> str:
    """The README's table: the parts and topics of book/_toc.yml, each chapter's question, and what it took."""
    rows = ["| chapter | the question | time and memory |", "|---|---|---|"]
    for part in yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))["parts"]:
        notebooks = [page for page in part["chapters"] if page["file"].startswith("notebooks/")]
        if notebooks:
            rows.append(f"| **{part['caption']}** | | |")
        for page in notebooks:
            nb = nbformat.read(ROOT / f"{page['file']}.ipynb", as_version=4)
            rows.append(f"| [{page['title']}]({page['file']}.ipynb) | {title(nb)} | {measured(nb)} |")
    return "\n".join(rows)


def update_readme() -> None:
    """Put the table between its two markers in the README."""
    readme = ROOT / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    write(readme, f"{head}{MARKS[0]}\n{chapter_table()}\n{MARKS[1]}{tail}")


def store(path: Path, nb: nbformat.NotebookNode) -> None:
    """Write a notebook, normalised."""
    write(path, f"{nbformat.writes(normalise(nb))}\n")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, whenever this is killed."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


# asked of the kernel after the last cell: the most memory it held, in bytes (Linux counts in KiB, macOS in bytes)
PEAK = """import resource, sys
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))"""


def execute(path: Path, keep: bool = True, timeout: int = 600) -> tuple[float, float]:
    """Run one notebook from its first cell to its last: seconds and gigabytes taken. Stores its outputs if asked."""
    nb = nbformat.read(path, as_version=4)
    ran = nbformat.from_dict({**nb, "cells": [*nb.cells, nbformat.v4.new_code_cell(PEAK)]})
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        NotebookClient(ran, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": empty}}).execute()
    seconds = time.perf_counter() - start
    gigabytes = int(ran.cells.pop().outputs[0].text) / 1e9
    result = ran if keep else nb
    note(result, seconds, gigabytes)
    store(path, result)
    return seconds, gigabytes


def main() -> None:
    os.environ["LEARN_DIFFUSION_DEVICE"] = "cpu"  # stored outputs are compared everywhere
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timings", action="store_true", help="measure only: stored outputs stay as they are")
    parser.add_argument("--normalise", action="store_true", help="run nothing: only bring stored outputs into form")
    parser.add_argument("names", nargs="*", help="how the names begin, such as 07; all notebooks without one")
    args = parser.parse_args()
    chosen = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.stem.startswith(tuple(args.names or [""]))]
    if not chosen:
        parser.error(f"names: expected the beginning of a notebook's name, such as 07, got {' '.join(args.names)}")
    if args.normalise:
        for path in chosen:
            store(path, nbformat.read(path, as_version=4))
        return
    print("| chapter | seconds | peak memory, GB |\n|---|---|---|", flush=True)
    for path in chosen:
        seconds, gigabytes = execute(path, keep=not args.timings)
        print(f"| {path.stem} | {seconds:.1f} | {gigabytes:.2f} |", flush=True)
        update_readme()  # after each: a run broken off leaves the two agreeing


if __name__ == "__main__":
    main()
