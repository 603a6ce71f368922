"""Sequence numbers compare across the wrap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.packet.sequence import SEQUENCE_MASK, sequence_difference


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        (0, 0, 0),
        (5, 3, 2),
        (3, 5, -2),
        (0, SEQUENCE_MASK, 1),
        (SEQUENCE_MASK, 0, -1),
        (100, SEQUENCE_MASK - 99, 200),
        (0x7FFFFFFF, 0, 0x7FFFFFFF),
        (0x80000000, 0, -0x80000000),
        (0, 0x80000000, -0x80000000),
    ],
)
def test_difference(a: int, b: int, difference: int) -> None:
    assert sequence_difference(a, b) == difference


@given(base=st.integers(0, SEQUENCE_MASK), step=st.integers(-(2**31), 2**31 - 1))
def test_difference_is_the_step_taken(base: int, step: int) -> None:
    assert sequence_difference((base + step) & SEQUENCE_MASK, base) == step
