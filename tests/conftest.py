"""Eight virtual CPU devices for every test, and typed keys only."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_legacy_prng_key", "error")
