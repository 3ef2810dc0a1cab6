"""Build the website: `python book/build.py [FOLDER]` (make book) writes book/_build/html, or FOLDER/_build/html.

Jupyter Book reads one folder, and the notebooks live beside this one: both are copied into a source folder first.
Warnings are errors.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import playground

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent


def assemble(source: Path) -> None:
    """Copy the book's own pages and the committed notebooks into one folder, made anew."""
    shutil.rmtree(source, ignore_errors=True)
    left = ("_build", "__pycache__", "node_modules", "package*.json", "build.py", "playground.py")
    shutil.copytree(BOOK, source, ignore=shutil.ignore_patterns(*left))
    (source / "notebooks").mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, source / "notebooks")
    for picture in ("prompt.png", "samples.png"):
        shutil.copy(ROOT / "data" / picture, source)
    (source / "painter.html").write_text(playground.painter(playground.repair()))
    try:
        playground.fill(source / "_static" / "playground")
    except OSError as error:
        print(f"The playground will show still pictures only: {error}", file=sys.stderr)


def build(out: Path = BOOK) -> Path:
    """The folder of the built pages. Raises SystemExit with the builder's own message where it fails."""
    source, pages = out / "_build" / "src", out / "_build" / "html"
    assemble(source)
    shutil.rmtree(pages, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", source, "--path-output", out, "--all", "-W", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}\nThe book was not built: see the messages above.")
    return pages


if __name__ == "__main__":
    print(build(*(Path(arg).resolve() for arg in sys.argv[1:])) / "index.html")
