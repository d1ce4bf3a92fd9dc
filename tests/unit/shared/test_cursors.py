"""Cursors: back and forth, and nothing else gets in."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cursors import cursor_of, position_of
from shared.problems import Problem
from tenant_registry.queries import HistoryPosition


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_text_comes_back(position: str) -> None:
    assert position_of(cursor_of(position), str) == position


@settings(deadline=None)
@given(st.integers(0, 253_402_300_799_999), st.integers(0, 2**63 - 1))
def test_a_place_in_the_history_comes_back(milliseconds: int, revision: int) -> None:
    position = HistoryPosition(milliseconds=milliseconds, revision=revision, id="x")
    assert position_of(cursor_of(position), HistoryPosition) == position


def test_no_cursor_is_no_position() -> None:
    assert position_of(None, str) is None


def forged(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "!",
        "ä",
        "e",
        forged(b"{"),
        forged(b"7"),
        forged(b'{"milliseconds":1,"revision":1}'),
        forged(b'{"milliseconds":1,"revision":99999999999999999999,"id":"x"}'),
        forged(b'{"milliseconds":1e300,"revision":1,"id":"x"}'),
        forged(b'{"milliseconds":1,"revision":1,"id":{"$gt":""}}'),
        forged(b'"\xff"'),
    ],
)
def test_anything_else_is_a_problem_with_status_422(cursor: str) -> None:
    for kind in (str, HistoryPosition):
        with pytest.raises(Problem) as caught:
            position_of(cursor, kind)
        assert caught.value.status == 422
