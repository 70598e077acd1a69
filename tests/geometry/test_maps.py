import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxreg.geometry import map_figure, maps
from jaxreg.geometry.examples import Head


@pytest.fixture(scope="module")
def space():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(6, 4)), 0.5 * rng.normal(size=4)
    return maps.Space(rng.normal(size=(50, 6)), rng.integers(0, 4, 50), Head(kernel, bias), 3 * rng.normal(size=(4, 6)))


def logits(space, points):
    return points @ space.head.kernel_DK + space.head.bias_K


@pytest.mark.parametrize("name", maps.PLANES)
def test_a_map_is_the_network_on_the_points_of_the_plane(space, name):
    plane = maps.PLANES[name](space)
    np.testing.assert_allclose(plane.axes_2D @ plane.axes_2D.T, np.eye(2), atol=1e-10)
    found = maps.evaluate(space, plane, 4.0, points=9)
    for i in range(9):
        for j in range(9):
            xy = found.coordinates_G[[j, i]]
            z = logits(space, plane.point_D + xy @ plane.axes_2D)
            assert found.prediction_GG[i, j] == z.argmax()
            p = np.exp(z - z.max())
            np.testing.assert_allclose(found.confidence_GG[i, j], p.max() / p.sum())


def test_the_slope_is_the_direction_of_the_gradient_by_differences(space):
    plane = maps.random(space)
    found = maps.evaluate(space, plane, 3.0, points=5)

    def loss(xy, c):
        z = logits(space, plane.point_D + xy @ plane.axes_2D)
        return np.log(np.exp(z).sum()) - z[c]

    for i in range(5):
        for j in range(5):
            xy, c, step = found.coordinates_G[[j, i]], found.prediction_GG[i, j], 1e-5
            gradient = np.array([(loss(xy + step * e, c) - loss(xy - step * e, c)) / (2 * step) for e in np.eye(2)])
            np.testing.assert_allclose(found.slope_GG2[i, j], gradient / np.linalg.norm(gradient), atol=1e-4)


@pytest.mark.parametrize("sure", [1, 50, 5000])
def test_the_slope_is_exact_where_the_network_is_sure(space, sure):
    """The gradient as a sum over rivals, in exact exponents, against float64's that has nothing left at a gap of 37."""
    head = Head(sure * space.head.kernel_DK, sure * space.head.bias_K)
    plane = maps.random(space)
    found = maps.evaluate(space._replace(head=head), plane, 3.0, points=6)
    flat = head.kernel_DK.T @ plane.axes_2D.T
    for i in range(6):
        for j in range(6):
            z = logits(space._replace(head=head), plane.point_D + found.coordinates_G[[j, i]] @ plane.axes_2D)
            c = z.argmax()
            others = [k for k in range(4) if k != c]
            gaps = z[others] - z[others].max()  # the largest p_j, j != c, is a common factor
            expected = np.sum(np.exp(gaps)[:, None] * (flat[others] - flat[c]), axis=0)
            np.testing.assert_allclose(found.slope_GG2[i, j], expected / np.linalg.norm(expected), atol=1e-9)


def test_planes_hold_what_they_are_named_after(space):
    for plane, classes in (
        (maps.through_two_centers(space, (1, 3)), (1, 3)),
        (maps.through_three_centers(space), (0, 1, 2)),
    ):
        for k in classes:
            back = plane.point_D + plane.project(space.centers_KD[k]) @ plane.axes_2D
            np.testing.assert_allclose(back, space.centers_KD[k], atol=1e-9)
    a, b = maps.through_two_centers(space).project(space.centers_KD[[0, 1]])
    assert a[0] < 0 < b[0]
    np.testing.assert_allclose(a[1] / np.linalg.norm(a), b[1] / np.linalg.norm(b))
    variance = maps.of_most_variance(space).project(space.features_ND).var(0).sum()
    top = np.linalg.eigvalsh(np.cov(space.features_ND.T, bias=True))[-2:].sum()
    np.testing.assert_allclose(variance, top)


def test_opposite_centers_still_span_a_plane(space):
    centers = space.centers_KD.copy()
    centers[1] = -centers[0]
    plane = maps.through_two_centers(space._replace(centers_KD=centers))
    np.testing.assert_allclose(plane.axes_2D @ plane.axes_2D.T, np.eye(2), atol=1e-10)


def test_maps_of_a_row_share_their_scale(space):
    other = space._replace(features_ND=5 * space.features_ND, centers_KD=5 * space.centers_KD)
    figure = map_figure.draw({"one": space, "five": other}, ["two centers", "random"])
    assert isinstance(figure, Figure)
    panels = np.array(figure.axes).reshape(2, 2)
    for row in panels:
        assert row[0].get_xlim() == row[1].get_xlim()
    assert [axis.get_title() for axis in panels[0]] == ["one", "five"]
    figure.canvas.draw()


def test_unknown_planes_are_named(space):
    with pytest.raises(ValueError, match=r"\['flat'\]; known: \['most variance'"):
        map_figure.draw({"one": space}, ["flat"])
