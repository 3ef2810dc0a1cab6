"""The bundle for a room without network: what make does where wheels/ lies, and what make bundle packs.

Nothing is downloaded or installed here; benchmarks/offline.py does all of it, with the network off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make found: Windows has its own four lines")


@pytest.fixture
def course(tmp_path):
    """A folder with what make reads, and no environment yet."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str, **settings: str) -> str:
    """What make prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "TORCH_INDEX")}
    command = ["make", *arguments]
    done = subprocess.run(command, cwd=folder, env=kept | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installs(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if " pip install " in line]


def test_without_wheels_pip_asks_the_network(course):
    torch, rest = installs(make(course, "-n", "lab", TORCH_INDEX="https://example.org/cpu", OFFLINE="--nonsense"))
    assert torch.endswith("--no-deps --extra-index-url https://example.org/cpu torch")
    assert rest.endswith('--editable ".[course]"')
    assert not any(word in torch + rest for word in ("--no-index", "--find-links", "--nonsense"))


def test_with_wheels_the_course_is_set_up_from_them_alone(course):
    (course / "wheels").mkdir()
    printed = make(course, "-n", "lab", TORCH_INDEX="https://example.org/cpu")
    torch, rest = installs(printed)
    for line in (torch, rest):
        assert "--no-index --find-links wheels" in line
        assert "--constraint constraints.txt" in line
        assert "index-url" not in line
    assert printed.splitlines()[-1].startswith(".venv/bin/jupyter lab ")


def test_what_the_bundle_has_not_still_comes_from_the_network(course):
    """The tests' packages and the peers are not among the wheels."""
    (course / "wheels").mkdir()
    assert "--no-index" not in next(line for line in installs(make(course, "-n", "book")) if "test,book" in line)
    assert ["--no-index" in line for line in installs(make(course, "-n", "peers"))] == [True, False, False]


# pip writes down how it was called, and leaves a file
STAND_IN = """#!/bin/sh
case "$*" in
*"pip download"*) echo "$*" >> calls; echo . > dist/learn_diffusion/wheels/a.whl ;;
"-m tools.website."*) {build} ;;
*) exec "{python}" "$@" ;;
esac
"""


@pytest.fixture
def repository(course):
    """The course under git, and an environment in which nothing is downloaded or built."""
    (course / ".gitignore").write_text(".venv/\ndist/\nbook/_build/\ncalls\n")
    (course / "notebooks").mkdir()
    (course / "notebooks" / "a.ipynb").write_text("{}")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        own = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}  # no signing, no hooks
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=course, env=own, check=True)
    (course / ".venv" / "bin").mkdir(parents=True)
    for stamp in (".course", ".test"):
        (course / ".venv" / stamp).touch()

    def ready(build: str) -> Path:
        stand_in = course / ".venv" / "bin" / "python"
        stand_in.write_text(STAND_IN.format(build=build, python=sys.executable))
        stand_in.chmod(0o755)
        return course

    return ready


def names(folder: Path) -> set[str]:
    (archive,) = (folder / "dist").iterdir()
    assert archive.name.endswith(f"-python{sys.version_info[0]}.{sys.version_info[1]}.zip")
    with zipfile.ZipFile(archive) as whole:
        return {name.removeprefix("learn_diffusion/") for name in whole.namelist() if not name.endswith("/")}


def test_bundle_packs_course_website_and_wheels(repository):
    made = {"book/_build/html/index.html", "book/_build/slides/index.html"}
    folder = repository("; ".join(f"mkdir -p {Path(file).parent} && echo . > {file}" for file in made))
    (folder / "secret").write_text("not committed")
    printed = make(folder, "bundle", TORCH_INDEX="https://example.org/cpu")
    course = {".gitignore", "Makefile", "pyproject.toml", "constraints.txt", "notebooks/a.ipynb"}
    assert names(folder) == course | made | {"wheels/a.whl", "wheels/made_for.txt"}
    assert "changes that are not committed" not in printed.replace("echo ", "")
    torch, rest = (folder / "calls").read_text().splitlines()
    for call in (torch, rest):
        assert "--constraint constraints.txt --only-binary :all: --dest dist/learn_diffusion/wheels" in call
    assert torch.endswith("--no-deps --extra-index-url https://example.org/cpu torch")
    assert rest.endswith("--find-links dist/learn_diffusion/wheels setuptools>=77 .[course]")  # the torch of before


def test_bundle_says_what_it_had_to_leave_out(repository):
    folder = repository("exit 1")
    (folder / "Makefile").open("a").write("# changed\n")
    lines = make(folder, "bundle").splitlines()
    assert "Not in the bundle: changes that are not committed" in lines
    for what in ("the website", "the slides"):
        assert f"Not in the bundle: {what}, which could not be built" in lines
    assert "notebooks/a.ipynb" in names(folder)
    assert not any(name.startswith("book/") for name in names(folder))


def test_the_wheels_include_what_builds_the_course():
    """pip builds the course in an environment of its own, and finds setuptools nowhere else."""
    required = next(
        line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("requires =")
    )
    assert required == 'requires = ["setuptools>=77"]'
    assert '"setuptools>=77" ".[course]"' in (ROOT / "Makefile").read_text()
