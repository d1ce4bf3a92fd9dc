"""Signing secrets at rest."""

import pytest

from notifier.secrets import SecretBox, UnknownKey

OLD, NEW = b"o" * 32, b"n" * 32


def test_what_is_sealed_can_be_opened_and_is_not_the_secret() -> None:
    box = SecretBox([NEW])
    sealed = box.seal("whsec_secret", subscription_id="s")
    assert b"whsec" not in sealed
    assert sealed != box.seal("whsec_secret", subscription_id="s")
    assert box.open(sealed, subscription_id="s") == "whsec_secret"


def test_another_subscriptions_secret_does_not_open() -> None:
    box = SecretBox([NEW])
    with pytest.raises(UnknownKey):
        box.open(box.seal("whsec_secret", subscription_id="s"), subscription_id="t")


def test_a_changed_byte_does_not_open() -> None:
    box = SecretBox([NEW])
    sealed = bytearray(box.seal("whsec_secret", subscription_id="s"))
    sealed[-1] ^= 1
    with pytest.raises(UnknownKey):
        box.open(bytes(sealed), subscription_id="s")


def test_the_operators_key_can_be_replaced() -> None:
    sealed = SecretBox([OLD]).seal("whsec_secret", subscription_id="s")
    assert SecretBox([NEW, OLD]).open(sealed, subscription_id="s") == "whsec_secret"
    with pytest.raises(UnknownKey, match="DELIVERY__SECRETS_KEY"):
        SecretBox([NEW]).open(sealed, subscription_id="s")
