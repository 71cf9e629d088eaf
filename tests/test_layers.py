"""The direction of imports, and what is installed."""

import ast
from functools import cache
from pathlib import Path

from tests.onnx_models import run_without_torch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "papez_lobes"
# each may import those before it: the order in which the data flows
ORDER = [
    ("lengths", "config"),
    ("errors", "norms", "memory", "halting", "convolution", "speechbrain_fixes"),
    ("codec", "framing"), ("authors_padding", "packing"), ("block", "pruning"), ("recurrent",),
    ("masknet",), ("spectral", "ablations"), ("separator",),
]
LOBES = [name for names in ORDER for name in names]


@cache
def imports(path):
    """Modules of the package that a file imports, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        roots = ("papez_lobes", "tests", "recipes", "examples", "benchmarks")
        found |= {name for name in names if name.split(".")[0] in roots}
    found -= {"papez_lobes", "papez_lobes.__version__"}
    return {name.removeprefix("papez_lobes.") for name in found}


def test_lobes_import_only_what_comes_before_them():
    for level, names in enumerate(ORDER):
        allowed = {name for earlier in ORDER[:level] for name in earlier}
        for name in set(names) - {"config"}:
            used = {used.split(".")[0] for used in imports(PACKAGE / f"{name}.py")}
            assert used <= allowed, name


def test_rooms_import_only_the_rooms_below_them():
    allowed = {
        "config": {"config", "devices", "errors", "resources"},
        "data": {"data", "errors", "files"},
        "fast": {"fast", "devices", "errors", *LOBES} - {"config"},
        "training": {
            "training", "data", "devices", "fast", "errors", "files", "lengths", "tables",
        },
        "evaluation": {
            "evaluation", "training", "data", "devices", "errors", "files", "scaling",
            "separator", "tables",
        },
        "inference": {
            "inference", "data", "devices", "errors", "config", "fast", "files", "resources",
            "scaling", "separator", "runtime",  # `load` gives either kind of separator
        },
        "runtime": {"runtime", "data", "errors", "inference", "scaling"},
        "export": {"export", "runtime", "inference", "config", "errors", "files", *LOBES},
        "profiling": {
            "profiling", "evaluation", "inference", "training", "data", "fast", "errors", "config",
            "files", "separator", "tables",
        },
    }
    for room, rooms in allowed.items():
        for path in (PACKAGE / room).rglob("*.py"):
            used = {used.split(".")[0] for used in imports(path)}
            assert used <= rooms, (path.name, used - rooms)
    used = {used.split(".")[0] for used in imports(PACKAGE / "training/losses.py")}
    assert used <= {"training", "lengths"}  # no lobe


def test_the_runner_imports_no_torch():
    """Neither its modules nor what they import does, before something is asked of them."""
    blocked = ("torch", "speechbrain", "scipy", "hyperpyyaml", "tqdm")
    done = run_without_torch("papez_lobes.runtime", "--help", blocked=(*blocked, "onnxruntime"))
    assert done.returncode == 0 and "MODEL.onnx" in done.stdout, done.stderr


def test_nothing_imports_the_command_or_what_is_not_installed():
    outside = {"recipes", "tests", "examples", "benchmarks"}
    for path in PACKAGE.rglob("*.py"):
        used = {used.split(".")[0] for used in imports(path)}
        assert not used & outside, path
        assert path.parent.name == "cli" or "cli" not in used, path


def test_no_test_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        shared = [name for name in imports(path) if name.startswith("tests.")]
        assert not [name for name in shared if ".test_" in name], path


def test_every_module_of_the_package_is_placed():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {
        *(set(LOBES) - {"config"}), "__init__", "devices", "files", "resources", "scaling",
        "tables",
    }


def test_every_folder_of_the_package_is_installed():
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in PACKAGE.rglob("__init__.py"):
        name = ".".join(path.parent.relative_to(ROOT).parts)
        assert f'"{name}"' in listed, name
