"""The set-up: pyproject, constraints and environment.yml agree, the repository is tidy, importing is cheap."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

import learn_diffusion
from learn_diffusion.samplers import SAMPLERS

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line).group().lower() for line in requirements}


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.lower().split("==") for line in lines if "==" in line)


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text().splitlines())


def test_constraints_pin_everything_the_project_asks_for():
    wanted = names(PROJECT["dependencies"]).union(*map(names, PROJECT["optional-dependencies"].values()))
    assert wanted <= CONSTRAINTS.keys(), wanted - CONSTRAINTS.keys()
    assert CONSTRAINTS["torch"] == "2.13.0"


def test_the_command_is_installed_with_the_package():
    assert PROJECT["scripts"] == {"learn-diffusion": "learn_diffusion.cli:main"}
    assert callable(importlib.import_module("learn_diffusion.cli").main)


def test_environment_yml_agrees_with_pyproject_and_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    pip = next(line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    pinned = pins(pip)
    needed = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["course"]) | {"nbval"}
    assert pinned.keys() == needed
    assert pinned == {name: CONSTRAINTS[name] for name in needed}
    assert "--constraint constraints.txt" in pip
    assert "--editable ." in pip
    python = next(line for line in conda if line.startswith("python="))
    assert tuple(map(int, python.split("=")[1].split("."))) >= (3, 11)
    assert PROJECT["requires-python"] == ">=3.11,<3.15"


def test_every_place_names_the_same_pythons():
    least, above = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    most = int(above) - 1
    for file in ("Makefile", "learn_diffusion/doctor.py"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.findall(r"\(3, (\d+)\) <= [^\n]*? <= \(3, (\d+)\)", text) == [(least, str(most))]
    for file in ("Makefile", "learn_diffusion/doctor.py", "README.md", "book/instructors.md"):
        text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
        assert f"3.{least} to 3.{most}" in text


def test_every_pinned_version_runs_on_the_oldest_python_that_is_named():
    """pip would search for ten minutes, and end in a conflict that names another package."""
    oldest = PROJECT["requires-python"].split(",")[0].removeprefix(">=") + ".0"
    for name in CONSTRAINTS:
        with suppress(PackageNotFoundError):  # of another system
            wants = distribution(name).metadata["Requires-Python"]
            assert not wants or oldest in SpecifierSet(wants), f"{name} wants Python {wants}"


def test_the_workflow_runs_every_group_of_make_test():
    groups = re.search(r"^test: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["group"]["strategy"]["matrix"]["group"] == groups


def test_the_top_level_holds_what_the_architecture_names_and_nothing_beside_it():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if out.returncode:  # an unpacked archive
        return
    top = {line.split("/")[0] for line in out.stdout.splitlines()}
    named = {
        "README.md", "LICENSE", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "constraints.txt", "environment.yml",
        "pyproject.toml",
        "notebooks", "learn_diffusion", "tests", "data", "book", "benchmarks", "tools", ".ci", ".github", ".gitignore",
        ".pre-commit-config.yaml",
    }  # fmt: skip
    assert top <= named, top - named


def test_the_hooks_before_a_commit_use_the_tested_versions():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pins = re.findall(r"([a-z]+)==([\d.]+)", hooks)
    assert {name for name, _ in pins} == {"ruff", "nbformat", "nbclient"}
    tested = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(f"{name}=={version}" in tested for name, version in pins)


def test_contributing_names_every_file_of_the_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "learn_diffusion").rglob("*.py"):
        name = path.relative_to(ROOT / "learn_diffusion").as_posix()
        if path.name != "__init__.py" and not path.name.startswith("chapter_"):  # those stand there as chapter_NN.py
            assert f"  {name} " in text or f", {name} " in text, f"the file tree of CONTRIBUTING.md lacks {name}"


def test_the_package_names_its_modules_and_samplers():
    said = learn_diffusion.__doc__
    for path in (ROOT / "learn_diffusion").glob("[a-z]*.py"):
        assert re.search(rf"\b{path.stem}\b", said), f"the docstring of learn_diffusion lacks {path.stem}"
    for text in (said, *((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))):
        assert all(name in text for name in SAMPLERS)


def test_importing_the_package_imports_no_plotting_and_no_torch():
    """Importing the package itself must cost next to nothing: its modules are imported one by one."""
    code = "import sys, learn_diffusion; print([m for m in ('torch', 'matplotlib', 'sklearn') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_core_imports_neither_matplotlib_nor_sklearn():
    code = (
        "import sys; from learn_diffusion import training, samplers, guidance, datasets, metrics, recipes; "
        "print([m for m in ('matplotlib', 'sklearn', 'IPython', 'ipywidgets', 'pooch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_code_in_the_readme_runs():
    """As it stands there, but for the number of steps."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    assert "steps=600, batch=32, progress=True" in block
    space = {}
    exec(block.replace("steps=600, batch=32, progress=True", "steps=3"), space)
    assert space["pictures"].shape == (64, 1, 28, 28)
    imported = re.search(r"`(from learn_diffusion.widgets.images import [\w, ]+)`", readme).group(1)
    saved = re.search(r"`pathlib\.Path\(\"digits\.png\"\)\.write_bytes\((.+)\)`", readme).group(1)
    exec(imported, space)
    assert eval(saved, space).startswith(b"\x89PNG")
