"""The architecture, enforced: who may import whom, what may be overridden, and how long a function may be."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "learn_diffusion"

# what each module may import of the package; a module that is not listed stands on top and may import anything
ALLOWED = {
    "validation": set(),
    "devices": set(),
    "team": set(),
    "process": {"validation", "schedules"},  # schedules for type hints only, see below
    "schedules": {"validation", "process"},
    "targets": {"validation", "process"},
    "denoiser": {"validation", "process", "schedules", "targets"},
    "checkpoints": {"denoiser", "devices", "nets", "schedules", "targets"},
    "training": {"checkpoints", "validation", "denoiser", "devices", "process", "schedules", "team"},
    "gan": {"validation", "devices", "training"},
    "samplers": {"validation", "process", "schedules"},
    "guidance": {"validation", "process", "schedules"},
    "editing": {"validation", "process", "samplers", "schedules"},
    "sampling": {"denoiser", "devices", "guidance", "process", "samplers", "schedules"},
    "metrics": {"validation", "nets"},
    "nets": {"nets"},
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
    assert importers["recipes"] <= {"recipes", "cli", "doctor", "exercises"}


def test_no_function_hides_a_module():
    """`import learn_diffusion.datasets.scenes as m` gives the module: no name in a package is also a file in it."""
    for path in modules():
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert path.stem not in names, path
    for name in ("datasets", "nets", "recipes", "widgets"):
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


def test_every_class_is_abstract_or_final():
    """Nothing concrete is overridden: no class of the package derives from a class that can be used itself."""
    from learn_diffusion.schedules import SCHEDULES, Schedule

    for cls in SCHEDULES.values():
        assert cls.__mro__[1] is Schedule
        assert getattr(cls, "__final__", False), cls
        overridden = {name for name in vars(cls) if getattr(vars(Schedule).get(name), "__final__", False)}
        assert not overridden, f"{cls.__name__} overrides {overridden}"


def test_functions_fit_on_a_screen():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= 65, f"{path.name}: {node.name} has {lines} lines"


def test_public_functions_say_what_they_do():
    for path in modules():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or path.name == "__init__.py", path
        for node in tree.body:
            answer = path.name.startswith("chapter_") and getattr(node, "decorator_list", [])  # one of an exercise's
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not answer:
                assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
