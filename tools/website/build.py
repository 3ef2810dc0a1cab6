"""Build the website: `python -m tools.website.build [FOLDER]` writes book/_build/html, or FOLDER/_build/html.

Jupyter Book reads one folder, and the notebooks live beside book/: both are copied into a source folder first. There
{{chapters}} becomes a card for each chapter, {{time 07}} what chapter 07 was measured to take, {{table speed 0}}
the first table of benchmarks/results/speed.json, and {{table speed 0: name; seconds}} two of its columns. Warnings are
errors.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from learn_diffusion.widgets.interactive import NO_KERNEL
from tools import ROOT, tables
from tools.website import handouts, landing, launch, playground, sharing

BOOK = ROOT / "book"
PLAYGROUND = "Or draw in <a href='../playground.html'>the playground</a>, without Python."  # within JSON


def assemble(source: Path) -> None:
    """Copy the book's own pages and the committed notebooks into one folder, made anew."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(BOOK, source, ignore=shutil.ignore_patterns("_build", "node_modules", "package*.json"))
    (source / "notebooks").mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        text = notebook.read_text(encoding="utf-8").replace(NO_KERNEL, f"{NO_KERNEL} {PLAYGROUND}")
        (source / "notebooks" / notebook.name).write_text(text, encoding="utf-8")
    chapters = table()
    for page in source.glob("*.md"):
        page.write_text(filled(page.read_text(encoding="utf-8"), chapters), encoding="utf-8")
    config = yaml.safe_load((source / "_config.yml").read_text())
    for part, more in (launch.settings() | sharing.settings()).items():
        config[part] |= more
    (source / "_config.yml").write_text(yaml.safe_dump(config))
    landing.fill(source)
    (source / "_static" / "handouts.html").write_text(handouts.page(), encoding="utf-8")
    (source / "painter.html").write_text(playground.painter(playground.repair()))
    try:
        playground.fill(source / "_static" / "playground")
    except OSError as error:
        print(f"The playground will show still pictures only: {error}", file=sys.stderr)


def table() -> str:
    """The chapters with their questions and measured times, as the README has them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(r"<!-- chapters:.*?-->\n(.*?)\n<!-- end", text, re.S).group(1)


def filled(text: str, chapters: str) -> str:
    """A page with its times and tables filled in. Raises SystemExit for one that was never measured."""
    seconds = dict(re.findall(r"^\| \[(\w+) .*\| (\d+ s) and", chapters, re.M))
    if unknown := set(re.findall(r"\{\{time (\w+)\}\}", text)) - seconds.keys():
        raise SystemExit(f"{{{{time {unknown.pop()}}}}}: the README has no measured time for this chapter")
    text = re.sub(r"\{\{time (\w+)\}\}", lambda found: seconds[found[1]], text)
    text = re.sub(r"\{\{table ([\w/]+) (\d+)(?:: (.+?))?\}\}", lambda found: result(*found.groups()), text)
    return text.replace("{{chapters}}", landing.cards()) if "{{chapters}}" in text else text


def result(name: str, i: str, columns: str | None) -> str:
    """A measured table, with the command that measures it again."""
    try:
        path = ROOT / "benchmarks" / "results" / f"{name}.json"
        return tables.kept(path, int(i), columns.split("; ") if columns else ())
    except (OSError, IndexError, ValueError) as error:
        raise SystemExit(f"{{{{table {name} {i}}}}}: {error}") from error


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
