"""Who may import whom; how long files and functions are; that everything public is documented."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "allora_lab"
FILES = sorted(ROOT.rglob("*.py"))

# What each part may import besides itself; parts further down stand on those above.
MAY_IMPORT = {
    "checks": set(),
    "settings": {"checks"},
    "flags": {"checks", "settings"},
    "locks": set(),
    "files": {"locks"},
    "adapters": {"checks"},
    "theory": {"checks"},
    "allocation": {"adapters", "checks"},
    "sidecar": {"checks", "files"},
    "peft_files": {"adapters"},
    "export": {"adapters", "files", "peft_files", "sidecar"},
    "import_peft": {"adapters", "peft_files", "sidecar"},
    "peft": {"adapters", "checks", "data", "models", "peft_files", "sidecar"},
    "method": {"adapters", "allocation"},
    "rank_methods": {"adapters", "allocation", "method"},
    "methods": {"adapters", "checks", "method", "rank_methods"},
    "build": {"adapters", "checks", "method", "methods"},
    "models": {"checks", "files"},
    "data": {"checks", "files", "models"},
    "training": {"adapters", "allocation", "checks", "data", "files"},
    "planning": {"adapters", "build", "checks", "methods", "models"},
    "config": {"build", "checks", "methods", "settings", "training"},
    "plots": {"methods", "theory", "training"},
    "experiments": {
        *(
            "adapters",
            "allocation",
            "build",
            "checks",
            "config",
            "data",
            "files",
            "locks",
            "methods",
            "models",
            "settings",
            "theory",
            "training",
            "__init__",
        ),
    },
    "figures": {"config", "experiments", "plots", "theory", "training"},
    "panels": {"allocation", "config", "experiments", "methods", "plots", "theory", "training"},
    "run_options": {
        "checks",
        "config",
        "data",
        "experiments",
        "flags",
        "methods",
        "planning",
        "settings",
    },
    "run_files": {"config", "experiments", "export", "files", "locks"},
    "commands": {
        *("checks", "config", "data", "experiments", "export", "figures", "files"),
        *("methods", "planning", "run_files", "run_options", "training"),
    },
    "sweep_commands": {
        *("checks", "commands", "config", "experiments", "files", "locks", "training"),
    },
    "plan_command": {"checks", "flags", "planning", "settings"},
    "cli": {
        "training",
        "__init__",
        "checks",
        "commands",
        "flags",
        "plan_command",
        "settings",
        "sweep_commands",
    },
    "__main__": {"cli"},
    "__init__": set(),
}


def part_of(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path):
    """Return the parts of this package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("allora_lab"):
            words = node.module.split(".")
            if len(words) > 1:
                found.add(words[1])
            else:
                names = {alias.name for alias in node.names}
                found |= {n if n in MAY_IMPORT else "__init__" for n in names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    assert imports(path) - {part} <= MAY_IMPORT[part]


def test_the_table_has_no_circle():
    order = []
    while len(order) < len(MAY_IMPORT):
        ready = [p for p in MAY_IMPORT if p not in order and MAY_IMPORT[p] <= set(order)]
        assert ready
        order += ready


def definitions(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, kinds)], tree


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_short_and_public_names_documented(path):
    assert len(path.read_text().splitlines()) <= 250
    nodes, tree = definitions(path)
    assert ast.get_docstring(tree)
    inner = {
        id(c) for n in nodes if isinstance(n, ast.FunctionDef) for c in ast.walk(n) if c is not n
    }
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 80, node.name
            assert node.returns is not None, f"{node.name} has no return type"
        if not node.name.startswith("_") and id(node) not in inner:
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_importing_the_package_does_not_wait_for_torch():
    program = "import sys, allora_lab; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_public_name_is_there():
    import allora_lab

    for name in allora_lab.__all__:
        assert getattr(allora_lab, name).__doc__ or name == "METHODS"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = allora_lab.nothing
