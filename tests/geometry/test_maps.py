import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxreg.geometry import map_figure, maps
from jaxreg.models.functional import Head


@pytest.fixture(scope="module")
def space():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(6, 4)), 0.5 * rng.normal(size=4)
    return maps.Space(rng.normal(size=(50, 6)), rng.integers(0, 4, 50), Head(kernel, bias), 3 * rng.normal(size=(4, 6)))


def logits(space, points):
    return points @ space.head.kernel + space.head.bias


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
    head = Head(sure * space.head.kernel, sure * space.head.bias)
    plane = maps.random(space)
    found = maps.evaluate(space._replace(head=head), plane, 3.0, points=6)
    flat = head.kernel.T @ plane.axes_2D.T
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


@pytest.mark.parametrize(
    ("centers", "name"),
    [
        ([[1, 0, 0], [2, 0, 0], [4, 0, 0]], "three centers"),  # on one line
        ([[1, 2, 3], [1, 2, 3], [1, 2, 3]], "three centers"),
        ([[1, 2, 3], [1, 2, 3], [0, 1, 0]], "three centers"),
        ([[0.1, 0.2, 0.3], [0.3, 0.6, 0.9], [0, 1, 0]], "two centers"),  # in one direction
        ([[0, 0, 0], [0, 2, 0], [0, 1, 0]], "two centers"),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], "two centers"),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], "three centers"),
    ],
)
def test_centers_that_span_less_than_a_plane_still_lie_on_one(centers, name):
    rng, centers = np.random.default_rng(0), np.array(centers, np.float32)
    head = Head(rng.normal(size=(3, 3)), np.zeros(3))
    plane = maps.PLANES[name](maps.Space(rng.normal(size=(9, 3)), np.arange(9) % 3, head, centers))
    np.testing.assert_allclose(plane.axes_2D @ plane.axes_2D.T, np.eye(2), atol=1e-12)
    for k in plane.classes:
        back = plane.point_D + plane.project(centers[k]) @ plane.axes_2D
        np.testing.assert_allclose(back, centers[k], atol=1e-6)


def test_two_classes_have_all_maps_but_that_of_three_centers(space):
    head = Head(space.head.kernel[:, :2], space.head.bias[:2])
    two = maps.Space(space.features_ND, space.labels_N % 2, head, space.centers_KD[:2])
    figure = map_figure.draw({"two classes": two})
    assert [axis.get_ylabel() for axis in figure.axes] == ["two centers", "most variance", "random"]
    with pytest.raises(ValueError, match="no map can be drawn"):
        map_figure.draw({"two classes": two}, ["three centers"])
    beside = map_figure.draw({"two classes": two, "four": space}, ["three centers"])
    assert [text.get_text() for text in beside.axes[0].texts] == ["fewer than\n3 classes"]
    assert beside.axes[1].images


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", [True, False])
def test_a_space_of_dead_features_is_a_word_among_the_maps(space, first):
    dead = space._replace(features_ND=0 * space.features_ND, centers_KD=np.full((4, 6), np.nan))
    spaces = {"dead": dead, "alive": space} if first else {"alive": space, "dead": dead}
    for figure in (map_figure.draw(spaces), map_figure.draw_rows({"row": spaces})):
        figure.canvas.draw()
        words = [text.get_text() for axis in figure.axes if not axis.images for text in axis.texts]
        assert set(words) == {"features are zero\nor not finite"}
        assert len([axis for axis in figure.axes if axis.images]) == len(words)


def test_maps_of_one_step_have_one_scale(space):
    large = space._replace(features_ND=3 * space.features_ND, centers_KD=3 * space.centers_KD)
    figure = map_figure.draw_rows(
        {"one": {"a": space, "b": large}, "other": {"a": large, "b": large}, "few": {"a": space}}
    )
    limits = {axis.get_xlim() for axis in figure.axes if axis.images}
    first = [axis.get_xlim() for axis in (figure.axes[0], figure.axes[2], figure.axes[4])]
    assert len(set(first)) == 1
    expected = maps.extent(large, maps.through_two_centers(large))
    assert first[0] == pytest.approx((-expected, expected))
    assert len(limits) == 1
    beside = map_figure.draw({"a": space, "b": large}, ["two centers"])
    assert {axis.get_xlim() for axis in beside.axes} == {first[0]}
    alone = map_figure.draw_rows({"one": {"a": space, "b": large}})
    assert alone.axes[0].get_xlim()[1] < alone.axes[1].get_xlim()[1]


@pytest.fixture
def halves():
    """A space in which class 0 wins left of the vertical line through the origin, the surer the farther."""
    head = Head(np.array([[-2.0, 2.0], [0.0, 0.0]]), np.zeros(2))
    features = np.array([[-3.0, 1.0], [-1.0, 2.0], [3.0, 1.0], [1.0, 2.0]])
    return maps.Space(features, np.array([0, 0, 1, 1]), head, np.array([[-2.0, 1.0], [2.0, 1.0]]))


def test_a_map_shows_each_region_on_its_side_and_arrows_up_the_loss(halves):
    """The plane of the centers has the sum of their directions as its vertical, and class 0 on the left."""
    (axis,) = map_figure.draw({"": halves}, ["two centers"]).axes
    (image,) = axis.images
    painted, (left, right, bottom, top) = image.get_array(), image.get_extent()
    assert image.origin == "lower"
    assert (left, bottom) == (-right, -top)
    middle = painted.shape[0] // 2

    def nearest(colour):
        strong = [1 - 0.6 * (1 - np.array(matplotlib.colors.to_rgb(one))) for one in map_figure.COLOURS[:2]]
        return int(np.argmin([abs(colour - one).sum() for one in strong]))

    assert [nearest(painted[middle, place]) for place in (5, -5)] == [0, 1]
    (arrows,) = [one for one in axis.collections if hasattr(one, "U")]
    # Up the loss of the predicted class is toward the other one: inward on both sides.
    assert (np.sign(arrows.U) == -np.sign(arrows.X))[np.abs(arrows.X) > 0.2].all()
    np.testing.assert_allclose(arrows.V, 0, atol=1e-6)
    (lines,) = [one for one in axis.collections if hasattr(one, "levels")]
    shown = [np.abs(path.vertices) for path in lines.get_paths() if len(path.vertices)]
    assert len(shown) >= 2
    for vertices in shown:  # of equal confidence: upright, as the border is
        assert np.ptp(vertices[:, 0]) < 0.1 < np.ptp(vertices[:, 1])
    spots = np.concatenate([one.get_offsets() for one in axis.collections if len(one.get_offsets()) == 4])
    np.testing.assert_allclose(spots, halves.features_ND, atol=1e-6)


def test_a_map_is_not_turned_upside_down(halves):
    """Class 1 wins above, class 0 below: the head looks at the vertical of the plane."""
    head = Head(np.array([[0.0, 0.0], [-2.0, 2.0]]), np.zeros(2))
    (axis,) = map_figure.draw({"": halves._replace(head=head)}, ["two centers"]).axes
    painted = axis.images[0].get_array()
    red, blue = (np.array(matplotlib.colors.to_rgb(map_figure.COLOURS[k])) for k in (1, 0))
    low, high = painted[3, painted.shape[1] // 2], painted[-3, painted.shape[1] // 2]
    assert abs(high - red).sum() < abs(high - blue).sum()
    assert abs(low - blue).sum() < abs(low - red).sum()
    (arrows,) = [one for one in axis.collections if hasattr(one, "V")]
    assert (np.sign(arrows.V) == -np.sign(arrows.Y))[np.abs(arrows.Y) > 0.2].all()


def test_no_line_of_a_grid_crosses_a_map(space):
    with matplotlib.rc_context({"axes.grid": True}):
        figure = map_figure.draw({"one": space})
    lines = [line for axis in figure.axes for line in axis.get_xgridlines() + axis.get_ygridlines()]
    assert not any(line.get_visible() for line in lines)


def test_classes_of_one_colour_have_different_markers():
    rng, labels = np.random.default_rng(0), np.arange(24) % 12
    many = maps.Space(rng.normal(size=(24, 3)), labels, Head(rng.normal(size=(3, 12)), np.zeros(12)), np.eye(12, 3))
    (axis,) = map_figure.draw({"twelve": many}, ["random"]).axes
    shapes = [group.get_paths()[0].vertices.shape for group in axis.collections if len(group.get_offsets()) in (20, 4)]
    assert len(set(shapes)) == 2


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
