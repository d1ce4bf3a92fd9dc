"""The receiver that docs/receiving-webhooks.md shows does what the page says of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.sample_app_platform import new_secret, signed

GUIDE = Path(__file__).parents[3] / "docs" / "receiving-webhooks.md"
SECRET = new_secret()


@pytest.fixture
def guide() -> dict[str, Any]:
    """The names that the page's code defines."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, GUIDE.name, "exec"), names)
    return names


@pytest.fixture
def push(guide: dict[str, Any], tmp_path: Path) -> Callable[..., int]:
    database = guide["open_database"](tmp_path / "app.sqlite3")

    def send(webhook_id: str, *, secret: str = SECRET, kind: str = "permission.status_changed", **data: Any) -> int:
        content = {"account_id": "northwind", "tenant": {"id": "t"}, "permission_set_id": "p", "usable": True, **data}
        body = json.dumps({"type": kind, "timestamp": "x", "data": content}).encode()
        headers = signed(secret, body, webhook_id=webhook_id)
        status: int = guide["receive"](database, [SECRET], body, headers)
        return status

    guide["database"] = database
    return send


def usable(guide: dict[str, Any]) -> list[tuple[int, int]]:
    return list(guide["database"].execute("SELECT usable, revision FROM grants"))


def test_it_applies_news_and_drops_the_rest(guide: dict[str, Any], push: Callable[..., int]) -> None:
    assert push("a", revision=2) == 204
    assert push("b", revision=3, usable=False) == 204
    assert push("b", revision=9) == 204
    assert push("c", revision=1) == 204
    assert push("d", kind="tenant.promoted") == 204

    assert usable(guide) == [(0, 3)]


def test_it_refuses_strangers(guide: dict[str, Any], push: Callable[..., int]) -> None:
    assert push("a", secret=new_secret(), revision=2) == 401
    assert guide["receive"](guide["database"], [SECRET], b"{}", {"webhook-signature": "no comma"}) == 401

    assert usable(guide) == []


def test_what_failed_is_no_duplicate_when_it_comes_again(guide: dict[str, Any], push: Callable[..., int]) -> None:
    with pytest.raises(KeyError):
        push("a")
    assert push("a", revision=1) == 204

    assert usable(guide) == [(1, 1)]


def test_the_page_shows_a_push_that_the_sample_app_reads() -> None:
    from sample_app.pushes import StatusChanged, read  # noqa: PLC0415 (the rest of this module is the page's own code)

    (example,) = re.findall(r'^(\{"type": "permission.*?\}\})\n```', GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    change = read(example.encode()).change
    assert isinstance(change, StatusChanged)
    assert (change.tenant.name, change.usable) == ("Contoso Ltd", True)
