"""The decomposition that a TPU takes, against NumPy in float64, and lowered where trials lie on a mesh."""

import jax
import numpy as np
import pytest

from jaxreg.geometry.svd import jacobi_svd, spectrum, thin_svd
from jaxreg.runtime import parallel

SHAPES = [(4, 10), (5, 9), (10, 4), (20, 20), (1, 3), (33, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_rotations_give_the_decomposition(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left, values, right = map(np.asarray, jax.jit(jacobi_svd)(matrix))
    np.testing.assert_allclose(values, np.linalg.svd(matrix.astype(float), compute_uv=False), rtol=1e-5)
    np.testing.assert_allclose(left * values @ right, matrix, atol=2e-5)
    for one in (left.T @ left, right @ right.T):
        np.testing.assert_allclose(one, np.eye(len(values)), atol=2e-5)


def test_rows_that_depend_on_each_other_and_far_apart_values():
    """Class means less their mean have one zero value; the whitening of collapse keeps values down to 1e-6."""
    rng = np.random.default_rng(1)
    scales = np.float32(10.0) ** -np.arange(6)
    basis = np.linalg.qr(rng.normal(size=(12, 6)))[0].T
    matrix = (np.diag(scales) @ basis).astype(np.float32)
    found = np.asarray(jacobi_svd(matrix)[1])
    np.testing.assert_allclose(found, np.linalg.svd(matrix.astype(float), compute_uv=False), rtol=1e-4)
    spread = rng.normal(size=(5, 12)).astype(np.float32)
    left, values, right = map(np.asarray, jacobi_svd(spread - spread.mean(0)))
    assert values[-1] < 1e-5 * values[0]
    assert all(np.isfinite(one).all() for one in (left, values, right))


def test_it_lowers_for_a_tpu_within_a_mesh_of_trials():
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    for fn, shape in ((thin_svd, (2, 4, 6)), (spectrum, (2, 300, 300))):
        run = parallel.per_trial(lambda matrix, _, fn=fn: fn(matrix), mesh)
        assert "stablehlo.while" in run.lower(np.ones(shape, np.float32), (), ("tpu",)).as_text()
