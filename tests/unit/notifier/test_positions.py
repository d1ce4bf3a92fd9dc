"""Positions of streams as text."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.positions import InvalidPosition, Position, decode_position

AT = datetime(2026, 11, 23, 13, 0, 0, 123000, tzinfo=UTC)


@given(st.dictionaries(st.integers(0, 999), st.integers(0, 2**63 - 1), max_size=40))
def test_a_position_survives_a_header(offsets: dict[int, int]) -> None:
    text = Position(offsets=offsets, at=AT).encode()
    assert text.isascii()
    assert "\n" not in text
    assert decode_position(text) == Position(offsets=offsets, at=AT)


def test_a_position_of_all_partitions_is_short() -> None:
    assert len(Position(offsets=dict.fromkeys(range(24), 2**40), at=AT).encode()) < 400


@pytest.mark.parametrize("text", ["", "x", "AQ", "not a position", "=" * 5, "é", "A" * 50, "_" * 39, "1" * 16000])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidPosition):
        decode_position(text)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(raw: bytes) -> None:
    try:
        position = decode_position(base64.urlsafe_b64encode(raw).decode())
    except InvalidPosition:
        return
    assert all(0 <= offset < 2**63 for offset in position.offsets.values())
