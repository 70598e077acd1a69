import dataclasses

import numpy as np
import pytest
import scipy.stats

from jaxreg import data, probes
from jaxreg.calibration import human
from jaxreg.config import resolve
from jaxreg.spec import SpecError
from support.small_study import small_config


def save(tmp_path, **arrays):
    path = tmp_path / "votes.npz"
    np.savez(path, **arrays)
    return path


def test_aligned_by_id(tmp_path):
    path = save(tmp_path, id=np.array([7, 3]), counts=np.array([[9, 1], [0, 5]]))
    np.testing.assert_allclose(human.aligned(human.load(path), np.array([3, 7]), 2), [[0, 5], [9, 1]])


def test_aligned_by_names(tmp_path):
    path = save(tmp_path, id=np.array(["a", "b"]), counts=np.array([[1, 1], [0, 5]]))
    np.testing.assert_allclose(human.aligned(human.load(path), np.array(["b"]), 2), [[0, 5]])


def test_agreement_by_hand_and_by_scipy():
    logits = np.log(np.array([[0.8, 0.2], [0.5, 0.5]]))
    votes = np.array([[0.6, 0.4], [1.0, 0.0]])
    found = human.agreement(logits, votes)
    expected = [-0.6 * np.log(0.8) - 0.4 * np.log(0.2), np.log(2)]
    np.testing.assert_allclose(found["cross_entropy"], expected)
    np.testing.assert_allclose(found["kl"], scipy.stats.entropy(votes, [[0.8, 0.2], [0.5, 0.5]], axis=1))
    np.testing.assert_allclose(found["vote"], [0.6, 1.0])
    np.testing.assert_allclose(found["confidence"], [0.8, 0.5])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"id": [1]}, "need the arrays 'id' and 'counts'"),
        ({"id": [1], "counts": [[1, 2], [3, 4]]}, r"expected \[N\] and \[N, K\]"),
        ({"id": [1, 1], "counts": [[1, 2], [3, 4]]}, "only 1 different"),
        ({"id": [1, 2], "counts": [[1, 2], [0, 0]]}, "id 2: counts must be"),
        ({"id": [1, 2], "counts": [[1, -2], [1, 0]]}, "id 1: counts must be"),
    ],
)
def test_bad_files_are_named(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        human.load(save(tmp_path, **arrays))


def test_what_is_no_npz_is_named(tmp_path):
    (tmp_path / "votes.npz").write_bytes(b"id,counts")
    with pytest.raises(ValueError, match=r"is no \.npz"):
        human.load(tmp_path / "votes.npz")


def test_a_study_checks_votes_before_it_trains(tmp_path):
    path = save(tmp_path, id=np.array([-1]), counts=np.array([[1, 2]]))
    spec = resolve(small_config()).probes
    asked = dataclasses.replace(spec.settings["calibration"], human_labels=str(path))
    spec = dataclasses.replace(spec, settings={**spec.settings, "calibration": asked})
    with pytest.raises(SpecError, match="counts of 2 classes, the dataset 10"):
        probes.check(spec, data.describe("digits"))
    with pytest.raises(SpecError, match="human labels match no example of validation or test"):
        probes.check_data(spec, data.load("digits"))


def test_missing_ids_and_other_classes_are_named(tmp_path):
    table = human.load(save(tmp_path, id=np.array([1]), counts=np.array([[1, 2]])))
    with pytest.raises(ValueError, match="example 5 has no human labels"):
        human.aligned(table, np.array([1, 5]), 2)
    with pytest.raises(ValueError, match="2 classes, the logits 3"):
        human.aligned(table, np.array([1]), 3)


def errors(confidence, counts, draws, bins=15):
    """ECE and MCE of votes drawn anew, by NumPy's own binomial and loops over bins."""
    random, place = np.random.default_rng(4), np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(int)
    members = [np.flatnonzero(place == m) for m in range(bins)]
    found = []
    for _ in range(draws):
        gap = random.binomial(counts, confidence) / counts - confidence
        gaps = [abs(gap[own].sum()) for own in members if len(own)]
        sizes = [len(own) for own in members if len(own)]
        found.append((sum(gaps) / len(confidence), max(np.divide(gaps, sizes))))
    return np.array(found).T


@pytest.mark.parametrize("voters", [1, 3, 50, None])
def test_the_floor_against_people_is_that_of_as_many_votes(voters, monkeypatch):
    monkeypatch.setattr(human, "CHUNK", 170)  # 400 examples: two whole chunks and a part
    size, draws = 400, 400
    random = np.random.default_rng(3)
    confidence = random.uniform(0.3, 1, size)
    counts = random.integers(1, 60, size) if voters is None else np.full(size, voters)
    table = {int(i) + 7: np.array([n, 0]) for i, n in enumerate(counts)}
    found = human.noise(confidence, human.asked(table, {"test": np.arange(size) + 7}, draws, 0)["test"], 15)
    for name, expected in zip(("ece", "mce"), errors(confidence, counts, draws)):
        error = expected.std() * np.sqrt(2 / draws)
        assert abs(found[name].mean() - expected.mean()) < 4 * error
        assert found[name].std() == pytest.approx(expected.std(), rel=0.2)


def test_draws_follow_the_ids_and_distributions_count_as_one_vote():
    size, ids = 40, np.arange(40) + 7
    confidence = np.random.default_rng(3).uniform(0.3, 1, size)
    votes = {int(i): np.array([3, 1]) for i in ids}
    given, back = (human.asked(votes, {"test": own}, 50, 0)["test"] for own in (ids, ids[::-1]))
    np.testing.assert_allclose(human.noise(confidence, given, 9)["ece"], human.noise(confidence[::-1], back, 9)["ece"])
    shares = {one: own / own.sum() for one, own in votes.items()}
    assert (human.asked(shares, {"test": ids}, 50, 0)["test"].counts == 1).all()
    assert list(human.asked(shares, {"test": ids, "validation": ids + 100}, 50, 0)) == ["test"]


def test_what_are_no_votes_are_named():
    with pytest.raises(ValueError, match="human labels, id 3: counts must be finite, >= 0"):
        human.aligned({3: np.array([1.0, np.nan])}, np.array([3]), 2)
