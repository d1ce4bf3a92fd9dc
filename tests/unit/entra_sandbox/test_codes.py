"""Authorization codes."""

from collections.abc import Callable
from datetime import datetime

from entra_sandbox.codes import Codes
from entra_sandbox.store import Store

GUID = "00000000-0000-0000-0000-000000000001"


def issue(codes: Codes) -> str:
    return codes.issue(
        client_id=GUID,
        redirect_uri="http://localhost/cb",
        tenant_id=GUID,
        user_id=GUID,
        scopes=("openid",),
        nonce=None,
        code_challenge=None,
        code_challenge_method="plain",
        session_id="s",
    )


def test_a_code_lasts_ten_minutes_and_is_remembered_for_an_hour(
    store: Store, clock: Callable[[], datetime], move: Callable[[float], None]
) -> None:
    codes = Codes(store, clock=clock)
    first = issue(codes)
    found = codes.find(first)
    assert found
    assert not codes.expired(found)

    move(600)
    assert codes.expired(found)
    issue(codes)
    assert codes.find(first)

    move(3601)
    issue(codes)
    assert codes.find(first) is None


def test_a_redeemed_code_stays_redeemed_over_a_restart(store: Store) -> None:
    codes = Codes(store)
    name = issue(codes)
    found = codes.find(name)
    assert found
    codes.redeem(name, found)

    again = Codes(store).find(name)

    assert again
    assert again.redeemed
