"""Passes over examples and over trials: whatever the pieces and the groups, the same examples and the same trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.runtime import parallel, passes


@pytest.mark.parametrize("count", [1, 5, 6, 17])
def test_a_fold_sees_every_example_once(count):
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(2, 20, 3)), jnp.float32)
    own = passes.Placed(rows, 1, first=2, count=count)

    def step(last, counts_B, rows_B3):
        return last + counts_B @ rows_B3, counts_B.sum()

    last, counts = passes.fold(step, jnp.zeros(3), own, size=6)
    np.testing.assert_allclose(last, rows[1, 2 : 2 + count].sum(0), rtol=1e-5, atol=1e-5)
    assert counts.sum() == count
    whole = passes.total(lambda counts_B, rows_B3: counts_B @ rows_B3, own, size=6)
    np.testing.assert_allclose(whole, last, rtol=1e-6)


@pytest.mark.parametrize(("trials", "held", "sizes"), [(5, 1, [2, 2, 1]), (5, 3, [4, 1]), (5, 99, [5]), (1, 1, [1])])
def test_groups_of_trials_are_of_one_size_and_in_order(trials, held, sizes, monkeypatch):
    monkeypatch.setattr(passes, "GROUP_BYTES", held * 40)
    stack, seen, mesh = (
        np.random.default_rng(1).normal(size=(trials, 10)),
        [],
        parallel.make_mesh(devices=jax.devices()[:2]),
    )
    groups = passes.trial_groups(trials, 40, mesh)
    program = parallel.per_trial(lambda row, more: {"sum": row.sum() + more}, mesh)

    def read(group):
        seen.append(list(group))
        return stack[group].astype(np.float32)

    def watched(placed, shared):
        assert placed.shape == (groups.size, 10)
        return program(placed, shared)

    found = list(groups.run(watched, read, parallel.put_shared(np.float32(1), mesh)))
    assert [len(own) for own in seen] == sizes
    assert [t for group, _ in found for t in group] == [t for own in seen for t in own] == list(range(trials))
    np.testing.assert_allclose([one["sum"] for _, own in found for one in own], stack.sum(1) + 1, rtol=1e-5)
