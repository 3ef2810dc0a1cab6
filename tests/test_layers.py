"""The architecture, enforced: who may import whom, what may be overridden, and what a function checks when called."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "learn_diffusion"

# what each module may import of the package; a module that is not listed stands on top and may import anything
ALLOWED = {
    "validation": set(),
    "devices": set(),
    "distributed": set(),
    "process": {"validation", "schedules"},  # schedules for type hints only, see below
    "schedules": {"validation", "process"},
    "targets": {"validation", "process"},
    "denoiser": {"validation", "process", "schedules", "targets"},
    "checkpoints": {"denoiser", "devices", "nets", "schedules", "targets"},
    "training": {"checkpoints", "validation", "denoiser", "devices", "distributed", "optim", "process", "schedules"},
    "gan": {"validation", "devices", "training"},
    "samplers": {"validation", "process", "schedules"},
    "guidance": {"validation", "process", "schedules"},
    "editing": {"validation", "process", "samplers", "schedules"},
    "sampling": {"validation", "denoiser", "devices", "guidance", "process", "samplers", "schedules"},
    "metrics": {"validation", "nets", "datasets", "metrics", "process", "schedules"},
    "nets": {"validation", "nets"},
    "datasets": {"validation", "datasets"},
    "widgets": {"widgets"},
    "plots": {"widgets"},
}
TOP = {"recipes", "cli", "doctor", "plots", "widgets", "exercises"}  # nobody below imports these


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    """The name under learn_diffusion that a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(tree: ast.AST) -> set[str]:
    """The layers of this package that a module imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("learn_diffusion"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("learn_diffusion.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_layers(path):
    name, found = layer(path), imports(ast.parse(path.read_text()))
    if name in ALLOWED:
        assert found <= ALLOWED[name], f"{path.name} may not import {found - ALLOWED[name]}"


def test_nobody_below_imports_what_stands_on_top():
    for name, found in ALLOWED.items():
        assert name in TOP or not found & TOP, name
    importers = {top: {layer(p) for p in modules() if top in imports(ast.parse(p.read_text()))} for top in TOP}
    assert importers["cli"] == {"__main__"}
    assert importers["doctor"] == {"cli"}
    assert importers["recipes"] <= {"recipes", "challenge", "cli", "doctor", "exercises"}


def test_no_function_hides_a_module():
    """`import learn_diffusion.datasets.scenes as m` gives the module: no name in a package is also a file in it."""
    for path in modules():
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert path.stem not in names, path
    for name in ("datasets", "metrics", "nets", "recipes", "widgets"):
        package = importlib.import_module(f"learn_diffusion.{name}")
        for path in (PACKAGE / name).glob("[!_]*.py"):
            module = importlib.import_module(f"learn_diffusion.{name}.{path.stem}")
            assert getattr(package, path.stem) is module


def test_process_imports_schedules_for_type_hints_only():
    tree = ast.parse((PACKAGE / "process.py").read_text())
    assert not any("schedules" in imports(ast.Module([node], [])) for node in tree.body if not isinstance(node, ast.If))


def test_nets_import_nothing_but_torch_and_the_standard_library():
    for path in (PACKAGE / "nets").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                root = node.module.split(".")[0]
                assert root in {"torch", "learn_diffusion", *sys.stdlib_module_names}, path


def test_every_schedule_is_final_and_overrides_nothing_that_is():
    from learn_diffusion.schedules import SCHEDULES, Schedule

    for cls in SCHEDULES.values():
        assert cls.__mro__[1] is Schedule
        assert getattr(cls, "__final__", False), cls
        overridden = {name for name in vars(cls) if getattr(vars(Schedule).get(name), "__final__", False)}
        assert not overridden, f"{cls.__name__} overrides {overridden}"


def dotted(path: Path) -> str:
    return ".".join(["learn_diffusion", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def imported_when_loaded(path: Path, known: set[str]) -> set[str]:
    """The modules of this package that loading a file loads: not inside a function, not for type hints only."""
    found, todo = set(), list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= submodules or ({node.module} & known)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        todo += ast.iter_child_nodes(node)
    return found


def test_nothing_imports_in_a_circle():
    files = {dotted(path): path for path in modules()}
    graph = {name: imported_when_loaded(path, set(files)) - {name} for name, path in files.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


NAMED_TUPLE = {"_fields", "_replace", "_asdict"}  # public, in spite of their names


def test_private_names_stay_in_their_module():
    for path in modules():
        tree = ast.parse(path.read_text())
        ours = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("learn_diffusion")
            for alias in node.names
        }
        private = [name for name in ours if name.startswith("_")]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
                private += [node.attr] * (
                    node.attr.startswith("_") and node.attr not in NAMED_TUPLE and not node.attr.startswith("__")
                )
        assert not private, f"{dotted(path)} uses {private} of another module"


def test_nobody_edits_the_search_path():
    for folder in ("learn_diffusion", "tests", "benchmarks", "book"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                edits = isinstance(node, ast.Attribute) and node.attr == "path" and ast.unparse(node.value) == "sys"
                assert not edits, path


LINES = {"cli", "doctor"}  # their generators give lines of text, and have no arguments to check


def yields(node: ast.FunctionDef) -> bool:
    todo = list(node.body)
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(part, ast.FunctionDef | ast.Lambda | ast.GeneratorExp):
            todo += ast.iter_child_nodes(part)
    return False


def test_arguments_are_checked_by_the_call_and_not_by_the_first_next():
    """A public function may return a generator, and is none: calling one checks nothing."""
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and layer(path) not in LINES:
                manager = any("contextmanager" in ast.unparse(d) for d in node.decorator_list)
                assert manager or not yields(node), (
                    f"{dotted(path)}: {node.name} is a generator function: check the arguments outside, and loop in an "
                    "inner generator that is returned, as samplers.ddim does"
                )


def test_public_functions_say_what_they_do():
    for path in modules():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or path.name == "__init__.py", path
        for node in tree.body:
            answer = path.name.startswith("chapter_")  # a solution, or a mistake, of an exercise
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not answer:
                assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


IMPORTED = re.compile(r"from ((?:learn_diffusion|tools)[\w.]*) import (\([^)]*\)|[\w, ]+)")


@pytest.mark.parametrize("folder", ["benchmarks", "book", "notebooks", "tests", "."])
def test_code_in_strings_and_pages_imports_what_there_is(folder):
    """Code that a subprocess runs, and code in a page: no import statement there is seen by ruff."""
    kinds = ("*.md",) if folder == "." else ("**/*.py", "**/*.md", "**/*.ipynb")
    seen = 0
    for path in (path for kind in kinds for path in (ROOT / folder).glob(kind) if "_build" not in path.parts):
        for module, names in IMPORTED.findall(path.read_text(encoding="utf-8").replace("\\n", "\n")):
            for name in re.findall(r"\w+", re.sub(r" as \w+", "", names)):
                seen += 1
                found = hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}")
                assert found, f"{path.relative_to(ROOT)}: from {module} import {name}"
    assert seen > 0
