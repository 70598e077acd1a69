"""The mean path of PGD in the plane of feature norm and angle to the label's center, for all trials of a program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Shaped

from jaxreg.geometry import cosines, norms
from jaxreg.measured import Row
from jaxreg.models.functional import Apply, Tree
from jaxreg.robustness.balls import Norm, project, steepest
from jaxreg.runtime import parallel
from jaxreg.runtime.precision import careful

STEPS = 10  # after the clean image
STEP_SIZE = 0.25  # of the radius: the edge of the ball is reached after four


def _mean_path(
    trial: tuple[Tree, Tree, Array], shared: tuple[Array, Array, Array], *, apply: Apply, norm: Norm
) -> tuple[Array, Array]:
    """Mean norm and mean angle (radians) at the clean images and after each of `STEPS` steps: [STEPS + 1] each.

    Plain PGD on cross-entropy from the clean image, x <- P(x + eps / 4 steepest(gradient)), P onto the ball of radius
    eps and the box [0, 1]; it does not stop where the prediction changes, so that every example has a whole path.
    """
    (params, stats, centers_KD), (images_NHWC, labels_N, eps) = trial, shared
    eps_N = jnp.full(labels_N.shape, eps) + 0 * images_NHWC[:, 0, 0, 0]

    def loss(x_NHWC: Array) -> tuple[Array, Array]:
        logits_NK, features_ND, _ = apply(params, stats, x_NHWC, train=False)
        chosen_N = jnp.take_along_axis(jax.nn.log_softmax(logits_NK), labels_N[:, None], 1)
        return -jnp.sum(chosen_N), features_ND

    def step(x_NHWC: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        uphill_NHWC, features_ND = jax.grad(loss, has_aux=True)(x_NHWC)
        moved_NHWC = x_NHWC + STEP_SIZE * eps * steepest(uphill_NHWC, norm)
        at = norms.norm(features_ND).mean(), cosines.angle(features_ND, centers_KD[labels_N]).mean()
        return project(moved_NHWC, images_NHWC, eps_N, norm), at

    _, found = lax.scan(step, images_NHWC + 0 * eps_N[:, None, None, None], length=STEPS + 1)
    return found


@careful
def measure_path(
    apply: Apply,
    params: Tree,
    stats: Tree,
    images_NHWC: Shaped[np.ndarray, "N H W C"],
    labels_N: Shaped[np.ndarray, " N"],
    centers_TKD: Shaped[np.ndarray, "T K D"],
    *,
    eps: float,
    norm: Norm,
    mesh: parallel.Mesh | None = None,
    local: parallel.Local = "map",
    split: str = "test",
) -> list[list[Row]]:
    """For each trial the rows `adversarial_path_norm@STEP` and `adversarial_path_angle@STEP`, in one program.

    Args: images_NHWC: float32 in [0, 1]; params, stats, centers_TKD: stacks [T, ...].
    """
    mesh = parallel.make_mesh() if mesh is None else mesh
    given = parallel.put_trials((params, stats, np.asarray(centers_TKD, np.float32)), mesh)
    arrays = (np.asarray(images_NHWC, np.float32), np.asarray(labels_N, np.int32), np.float32(eps))
    run = parallel.per_trial(functools.partial(_mean_path, apply=apply, norm=norm), mesh, local, effort="cheap")
    both = parallel.fetch(run(given, parallel.put_shared(arrays, mesh)), len(centers_TKD))
    return [
        [
            Row(split, f"adversarial_path_{name}@{step}", float(value), len(labels_N))
            for name, found_TS in zip(("norm", "angle"), both)
            for step, value in enumerate(found_TS[t])
        ]
        for t in range(len(centers_TKD))
    ]
