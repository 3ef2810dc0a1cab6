"""The result tables of chapters over fresh seeds: `python benchmarks/chapters.py 13 19 --runs 3 --set N=100`.

A notebook that takes part has the line `SEED = 0`, on which all its random choices hang, and cells tagged "table".
It is run from its first cell to its last with another SEED, with its asserts, and those cells are printed. Nothing
is stored.
"""

from __future__ import annotations

import argparse
import re
import secrets
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def changed(nb: nbformat.NotebookNode, values: dict[str, str]) -> nbformat.NotebookNode:
    """The notebook with other values in its lines NAME = value. Raises ValueError where a name has no such line."""
    for name, value in values.items():
        found = 0
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.source, n = re.subn(rf"^{name} = [^ #\n]+", f"{name} = {value}", cell.source, flags=re.M)
                found += n
        if found != 1:
            raise ValueError(f"{name}: expected one line `{name} = ...` in the notebook, found {found}")
    return nb


def tables(path: Path, values: dict[str, str]) -> list[str]:
    """Run the notebook with these values; the text of its tables."""
    nb = changed(nbformat.read(path, as_version=4), values)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(nb, timeout=3600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    marked = [cell for cell in nb.cells if "table" in cell.metadata.get("tags", [])]
    return [text for cell in marked for out in cell.outputs if (text := in_words(out))]


def in_words(out: nbformat.NotebookNode) -> str:
    """A table, a picture's alt text, or what a cell printed; "" for progress bars, which go to stderr."""
    if out.output_type == "stream":
        return out.text.strip() if out.name == "stdout" else ""
    return out.get("data", {}).get("text/plain", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="+", help="numbers: 13 19")
    parser.add_argument("--runs", type=int, default=1, help="times, each with a seed of its own")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other lines to change, as N=500")
    options = parser.parse_args()
    for chapter in options.chapters:
        (path,) = NOTEBOOKS.glob(f"{chapter}_*.ipynb")
        for _ in range(options.runs):
            values = {"SEED": str(1 + secrets.randbelow(10**6)), **dict(pair.split("=", 1) for pair in options.set)}
            start = time.perf_counter()
            found = tables(path, values)
            print(f"{path.stem}, {', '.join(f'{k} = {v}' for k, v in values.items())}", end="")
            print(f", {time.perf_counter() - start:.0f} s", *found, sep="\n\n", end="\n\n", flush=True)


if __name__ == "__main__":
    main()
