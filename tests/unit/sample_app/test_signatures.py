"""Who signed a push: nobody may crash the check, and nobody but a subscriber's secret passes it."""

import base64
import hashlib
import hmac
import time

import pytest

from sample_app.signatures import signer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"test": 2432232314}'


def signature(secret: str, *, body: bytes = BODY, message_id: str = "msg_1", timestamp: int | None = None) -> str:
    """A ``v1`` signature made here, not by the package that is under test."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp or int(time.time())}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def headers(value: str, *, timestamp: int | None = None, message_id: str = "msg_1") -> dict[str, str]:
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp or int(time.time())),
        "webhook-signature": value,
    }


def test_the_secret_tells_the_app() -> None:
    secrets = [("search", OTHER), ("workbench", SECRET)]

    assert signer(BODY, headers(signature(SECRET)), secrets) == "workbench"
    assert signer(BODY, headers(signature(OTHER)), secrets) == "search"
    assert signer(BODY, headers(signature(SECRET)), [("search", OTHER)]) is None
    assert signer(BODY, headers(signature(SECRET)), []) is None


def test_during_a_rotation_old_and_new_secret_both_verify() -> None:
    """The header then lists two signatures; a push that left earlier has the old one only."""
    both = f"{signature(OTHER)} {signature(SECRET)}"

    assert signer(BODY, headers(both), [("search", SECRET)]) == "search"
    assert signer(BODY, headers(both), [("search", OTHER)]) == "search"
    assert signer(BODY, headers(signature(SECRET)), [("search", OTHER), ("search", SECRET)]) == "search"


def test_one_good_signature_among_others_verifies() -> None:
    """As the vectors of the libraries have it: of other secrets, and of a version that is not known here."""
    other = "Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    among = f"v1,{other} v2,{other} {signature(SECRET)} v1,{other}"

    assert signer(BODY, headers(among), [("a", SECRET)]) == "a"
    assert signer(BODY, headers(among.replace(signature(SECRET), f"v1a,{other}")), [("a", SECRET)]) is None


def test_what_was_changed_on_the_way_does_not_verify() -> None:
    good = signature(SECRET)

    assert signer(BODY + b" ", headers(good), [("a", SECRET)]) is None
    assert signer(BODY, headers(good, message_id="msg_2"), [("a", SECRET)]) is None
    assert signer(BODY, headers(good, timestamp=int(time.time()) - 30), [("a", SECRET)]) is None


@pytest.mark.parametrize("age", [-400, 400])
def test_an_old_or_future_push_does_not_verify(age: int) -> None:
    then = int(time.time()) - age

    assert signer(BODY, headers(signature(SECRET, timestamp=then), timestamp=then), [("a", SECRET)]) is None


@pytest.mark.parametrize(
    "strange",
    [
        "",
        "v1",
        "v1,",
        "v1,!!!!",
        "v1,abc",
        "v1,a,b",
        "no comma here",
        "v2,AAAA",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=",
        "\u00e9,\u00e9",
    ],
)
def test_a_strange_signature_is_refused_without_an_error(strange: str) -> None:
    """The package lets a plain ValueError out for several of these."""
    assert signer(BODY, headers(strange), [("a", SECRET)]) is None


@pytest.mark.parametrize("strange", ["", "soon", "nan", "inf", "1e400", "-1", "99999999999999999999"])
def test_a_strange_timestamp_is_refused_without_an_error(strange: str) -> None:
    values = {**headers(signature(SECRET)), "webhook-timestamp": strange}

    assert signer(BODY, values, [("a", SECRET)]) is None


def test_a_body_that_is_not_text_is_refused_without_an_error() -> None:
    assert signer(b"\xff\xfe", headers(signature(SECRET, body=b"\xff\xfe")), [("a", SECRET)]) is None


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!"])
def test_a_broken_secret_verifies_nothing(secret: str) -> None:
    assert signer(BODY, headers("v1,AAAA"), [("a", secret)]) is None


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_is_needed(missing: str) -> None:
    values = headers(signature(SECRET))
    del values[missing]

    assert signer(BODY, values, [("a", SECRET)]) is None
