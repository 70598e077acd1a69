"""The order of the rooms: imports point up only, `import jaxreg` is light, one file knows devices."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "jaxreg"
ORDER = [
    *("rng", "setting", "spec", "sweeps", "names", "measured", "runtime", "data", "models", "regularizers", "checks"),
    *("statistics", "training", "results", "conditions", "calibration", "robustness", "geometry", "trained"),
    *("claims", "probes", "config", "jobs", "report", "study", "commands", "__main__"),
]


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
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
