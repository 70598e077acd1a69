"""What imports what, in the package and in its tests; names that occur once; `import jaxreg` is light."""

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.checkout import ROOT

PACKAGE, TESTS = ROOT / "jaxreg", ROOT / "tests"
PATTERNS = re.compile(r"\.r?glob\(|\biglob\b|\bfnmatch\b")
ORDER = [
    "arithmetic",
    *("rng", "setting", "spec", "sweeps", "names", "measured", "runtime", "data", "models", "regularizers", "checks"),
    *("statistics", "training", "results", "conditions", "calibration", "robustness", "geometry", "trained"),
    *(
        "claims",
        "probes",
        "fields",
        "schema",
        "config",
        "config_file",
        "overrides",
        "jobs",
        "report",
        "study",
        "commands",
        "__main__",
    ),
]


def nodes(path: Path):
    return ast.walk(ast.parse(path.read_text()))


def imports(path: Path):
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from names


def rooms(path: Path):
    """The top-level modules of jaxreg that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("jaxreg.") and name.count(".")}


def files():
    return [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_its_place():
    assert {room_of(path) for path in files()} <= set(ORDER)


def test_imports_point_up():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in files()
        for room in rooms(path)
        if room in ORDER and ORDER.index(room) > ORDER.index(room_of(path))
    ]
    assert not wrong, wrong


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def needed(path: Path, modules):
    """Those of `modules` that a file imports: whole, or else something of them."""
    for name in imports(path):
        yield from [module for module in (name, name.rpartition(".")[0]) if module in modules][:1]


@pytest.mark.parametrize("room", [room for room in ORDER if (PACKAGE / room).is_dir()])
def test_no_cycle_of_imports_in_a_room(room):
    modules = {module_of(path): path for path in (PACKAGE / room).rglob("*.py")}
    TopologicalSorter({name: list(needed(path, modules)) for name, path in modules.items()}).prepare()


def test_a_public_class_has_a_name_of_its_own():
    names = [node.name for path in files() for node in nodes(path) if isinstance(node, ast.ClassDef)]
    assert not [name for name, count in Counter(names).items() if count > 1 and not name.startswith("_")]


def test_no_file_is_found_by_a_pattern():
    """Names of folders are a user's: one that holds a `[` is found too. One file tells it to a library."""
    paths = [path for folder in (PACKAGE, ROOT / "launch") for path in folder.rglob("*.py")]
    assert [path.name for path in paths if PATTERNS.search(path.read_text())] == ["paths.py"]


def test_a_module_of_tests_is_a_test_or_lies_in_its_folder():
    others = [path for path in TESTS.rglob("*.py") if not path.name.startswith("test_") and path.name != "conftest.py"]
    assert {path.parent for path in others} == {TESTS / "support", TESTS / "golden"}


def test_what_tests_share_is_imported_from_support():
    own = {"tests", *(path.stem for path in TESTS.rglob("*.py"))}
    names = [(path.name, name) for path in TESTS.rglob("*.py") for name in imports(path)]
    assert not [f"{path} imports {name}" for path, name in names if name.split(".")[0] in own]


def test_one_file_knows_devices():
    knows = [p.name for p in files() if any(name.startswith("jax.sharding") for name in imports(p))]
    assert knows == ["parallel.py"]


def test_import_is_light():
    heavy = "import sys, jaxreg; assert not {'jax', 'numpy', 'flax', 'pandas'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", heavy], check=True, timeout=60)


def test_importing_everything_touches_no_device():
    untouched = "import jaxreg.commands\nfrom jax._src import xla_bridge as bridge\n"
    untouched += "assert not bridge.backends_are_initialized()"
    subprocess.run([sys.executable, "-c", untouched], check=True, timeout=120)


def test_every_key_names_its_implementation():
    """Draws must not depend on what JAX is set to: a key is made in one place."""
    made = [str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py")) if "jax.random.key" in calls(path)]
    assert made == ["rng.py"]


def calls(path: Path) -> set[str]:
    """What a file calls, as it is written."""
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
