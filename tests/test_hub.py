"""The course on a hub: the image that Binder builds, the link that hands out notebooks, and what they write there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import chapter_cells
import pytest
import yaml

from tools import ROOT
from tools.website import launch

GUIDE = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
# what writes a file, as a cell may call it
WRITERS = {
    "dump", "export", "makedirs", "mkdir", "open", "rename", "save", "save_file", "save_lora", "savefig",
    "savetxt", "savez", "to_csv", "tofile", "touch", "unlink", "write_bytes", "write_text",
}  # fmt: skip
WRITING = {"20": {"export"}, "22": {"save_lora"}}  # chapter -> what writes there, into a temporary folder


def test_repo2docker_makes_an_image_of_environment_yml():
    """It needs no Docker for that: it stops at the Dockerfile, which it prints."""
    pytest.importorskip("repo2docker", reason='no repo2docker found: pip install -e ".[test]"')
    options = ["--no-build", "--debug", "--user-id=1000", "--user-name=student"]
    done = subprocess.run([sys.executable, "-m", "repo2docker", *options, ROOT], capture_output=True, text=True)
    made = done.stdout + done.stderr
    assert done.returncode == 0, made[-2000:]
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python = next(line for line in dependencies if str(line).startswith("python=")).split("=")[1]
    assert f"Building conda environment for python={python}\n" in made
    copied, installed = made.index("COPY --chown=1000:1000 src/ "), made.index('--file "environment.yml"')
    assert copied < installed  # --editable and --constraint name files of the repository


def test_the_link_of_the_guide_hands_out_the_notebooks():
    link = urlsplit(re.search(r"https://HUB/\S+", GUIDE)[0])
    asked = {name: value for name, (value,) in parse_qs(link.query, strict_parsing=True).items()}
    assert link.path == "/hub/user-redirect/git-pull"
    assert asked.keys() == {"repo", "branch", "urlpath"}
    folder = asked["repo"].rsplit("/", 1)[1]  # where nbgitpuller puts it
    opened = asked["urlpath"].removeprefix(f"lab/tree/{folder}/")
    assert opened != asked["urlpath"]
    assert (ROOT / opened).is_file()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    assert [asked["branch"]] == workflow[True]["push"]["branches"]  # YAML reads `on` as true
    assert asked["branch"] != launch.BRANCH  # which is written anew each time: nobody could pull from it


def called(cell: str) -> set[str]:
    """The last names of all that a cell calls."""
    calls = [node.func for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def test_chapters_write_into_temporary_folders_only():
    """A pull merges then: of the files in git, a chapter that is run changes at most itself, when it is saved."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        writing = [cell for cell in chapter_cells.cells(path) if called(cell) & WRITERS]
        assert set().union(*map(called, writing)) & WRITERS == WRITING.get(path.name[:2], set()), path.name
        assert all("tempfile." in cell for cell in writing), path.name
