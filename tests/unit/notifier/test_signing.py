"""Signatures: the vectors of the Standard Webhooks libraries, and the specification's own verifier."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from notifier.signing import key_of, new_secret, signature_header

Spoil = Callable[[dict[str, str], bytes], dict[str, str]]

V1 = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
V2 = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.mark.parametrize(
    ("secret", "message_id", "timestamp", "body", "signature"),
    [
        (
            V1,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            V2,
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1649367553,
            b'{"email":"test@example.com","username":"test_user"}',
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ],
)
def test_the_published_vectors(secret: str, message_id: str, timestamp: int, body: bytes, signature: str) -> None:
    assert signature_header([key_of(secret)], message_id=message_id, timestamp=timestamp, body=body) == signature


def headers_of(secrets: list[str], body: bytes, *, at: int | None = None, message_id: str = "evt") -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp()) if at is None else at
    keys = [key_of(secret) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": signature_header(keys, message_id=message_id, timestamp=now, body=body),
    }


def test_the_library_verifies_what_we_sign_in_any_script() -> None:
    secret, body = new_secret(), '{"name":"Größe 東京"}'.encode()
    assert Webhook(secret).verify(body, headers_of([secret], body)) == {"name": "Größe 東京"}


def test_during_an_overlap_the_old_and_the_new_secret_verify() -> None:
    old, new, body = new_secret(), new_secret(), b"{}"
    headers = headers_of([new, old], body)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers) == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda headers, _: headers | {"webhook-id": "other"},
        lambda headers, _: headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)},
        lambda _, body: headers_of([new_secret()], body),
        lambda headers, body: headers_of([V1], body, at=int(headers["webhook-timestamp"]) - 400),
    ],
    ids=["id", "timestamp", "secret", "age"],
)
def test_what_was_changed_does_not_verify(spoil: Spoil) -> None:
    body = b'{"test": 1}'
    with pytest.raises(WebhookVerificationError):
        Webhook(V1).verify(body, spoil(headers_of([V1], body), body))


def test_a_changed_body_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(V1).verify(b'{"test": 2}', headers_of([V1], b'{"test": 1}'))


@pytest.mark.parametrize("length", [30, 31, 32])
def test_padding_of_a_secret_may_be_missing(length: int) -> None:
    key = bytes(range(length))
    assert key_of("whsec_" + base64.b64encode(key).decode().rstrip("=")) == key


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!"])
def test_an_empty_or_broken_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        key_of(secret)


def test_secrets_are_long_random_and_in_the_documented_form() -> None:
    made = {new_secret() for _ in range(20)}
    assert len(made) == 20
    assert all(secret.startswith("whsec_") and 24 <= len(key_of(secret)) <= 64 for secret in made)
