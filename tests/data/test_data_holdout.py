import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxreg.data.dataset import key_ids
from jaxreg.data.source import hash_order, held_out

IDS = st.one_of(
    st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=60, unique=True),
    st.lists(st.text("abc_0123é", min_size=1, max_size=8), min_size=2, max_size=60, unique=True),
)


@given(IDS, st.randoms(use_true_random=False))
def test_order_depends_on_ids_not_on_where_they_stand(ids, random):
    shuffled = random.sample(ids, len(ids))
    first, second = np.array(ids), np.array(shuffled)
    assert first[hash_order(first)].tolist() == second[hash_order(second)].tolist()


@given(IDS)
def test_order_is_that_of_the_whole_hash(ids):
    expected = sorted(ids, key=lambda one: hashlib.blake2b(str(one).encode()).digest())
    assert np.array(ids)[hash_order(np.array(ids))].tolist() == expected


@given(IDS)
def test_removing_an_example_moves_no_other_pair(ids):
    whole, rest = np.array(ids), np.array(ids[1:])
    kept = [one for one in whole[hash_order(whole)].tolist() if one != ids[0]]
    assert rest[hash_order(rest)].tolist() == kept


def test_key_ids_are_the_first_four_bytes_of_blake2b():
    # coreutils: printf train_00042 | b2sum | cut -c1-8, and the same of 7
    np.testing.assert_array_equal(key_ids(np.array(["train_00042"])), np.array([0x642E56EE], np.uint32))
    np.testing.assert_array_equal(key_ids(np.array([7])), np.array([0xD5C47F63], np.uint32))
    assert key_ids(np.array(["7"])) == key_ids(np.array([7]))


@given(st.integers(2, 10**6), st.data())
def test_a_count_is_itself_and_a_share_is_rounded(total, data):
    count = data.draw(st.integers(1, total - 1))
    assert held_out(count, total) == count
    share = data.draw(st.floats(1 / total, 1 - 1 / total))
    assert abs(held_out(share, total) - share * total) <= 0.5


@pytest.mark.parametrize("wrong", [0, -1, 100, 101, 0.0, -0.5, 0.001, 0.999, 1.5, float("nan"), float("inf"), True])
def test_what_leaves_no_validation_or_no_train_is_refused(wrong):
    with pytest.raises(ValueError, match=r"validation must be a number of examples from 1 to 99, or a share") as error:
        held_out(wrong, 100)
    assert "\n" not in str(error.value)
