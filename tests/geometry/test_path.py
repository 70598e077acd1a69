import jax.numpy as jnp
import numpy as np

from jaxreg.geometry import attack_path


def linear(params, stats, x, *, train):
    features = x.reshape(len(x), -1)
    return features @ params, features, stats


def test_the_path_of_a_linear_network_is_known():
    """Features are the pixels and there are two classes: every step is eps / 4 along one sign pattern, to the edge."""
    rng = np.random.default_rng(0)
    kernel = np.repeat(rng.normal(size=(1, 4, 2)), 2, 0).astype(np.float32)
    images = rng.uniform(0.4, 0.6, size=(5, 2, 2, 1)).astype(np.float32)
    labels = np.arange(5) % 2
    centers = kernel.swapaxes(1, 2)
    both = attack_path.measure_path(linear, jnp.asarray(kernel), {}, images, labels, centers, eps=0.1, norm="linf")
    away = np.sign(kernel[0, :, 1 - labels] - kernel[0, :, labels])
    for rows in both:
        found = {row.metric: row.value for row in rows}
        for step in range(attack_path.STEPS + 1):
            moved = images.reshape(5, 4) + min(step / 4, 1) * 0.1 * away
            norm = np.linalg.norm(moved, axis=1)
            cosine = np.sum(moved * centers[0, labels], 1) / norm / np.linalg.norm(centers[0, labels], axis=1)
            np.testing.assert_allclose(found[f"adversarial_path_norm@{step}"], norm.mean(), rtol=1e-5)
            np.testing.assert_allclose(found[f"adversarial_path_angle@{step}"], np.arccos(cosine).mean(), rtol=1e-4)
