"""Eight virtual CPU devices for every test, typed keys only, checked shapes, and one store of compiled programs."""

import os
import tempfile

# What one test compiled the others load: workers, and commands that a test starts, inherit the place.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="jaxreg-compiled-")  # gone when this process ends
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

# Most of the time of tests goes into compiling: less optimised machine code takes a third less of it, and without its
# newer emitters of fusions, whose code trains a tenth faster, XLA takes another third less.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false")

import jax
import jaxtyping
import pytest

import support.shapes  # noqa: F401

jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # from here on fixed: a command run within a test asks for others in vain
jax.config.update("jax_legacy_prng_key", "error")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Shapes in the types of the measurements are checked in tests alone.
jaxtyping.install_import_hook(["jaxreg.calibration", "jaxreg.geometry", "jaxreg.robustness"], "support.shapes.checked")


@pytest.fixture
def as_users():
    """Shapes are not checked, as in production: for what users get who give something wrong."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_collection_modifyitems(items):
    """The longest file first, or one of two workers ends minutes after the other."""
    items.sort(key=lambda item: item.path.name != "test_study.py")
