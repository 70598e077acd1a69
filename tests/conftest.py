"""Eight virtual CPU devices for every test, and typed keys only."""

import os

# Less optimised machine code takes a third less time to compile, which is what most tests do; the numbers are the same.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # from here on fixed: a command run within a test asks for others in vain
jax.config.update("jax_legacy_prng_key", "error")


def pytest_collection_modifyitems(items):
    """The longest file first, or one of two workers ends minutes after the other."""
    items.sort(key=lambda item: item.path.name != "test_study.py")
