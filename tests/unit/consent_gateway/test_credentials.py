"""Credentials: which one is used, what may be said of it, and how one follows another without a restart."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from consent_gateway.entra.credentials import CredentialError, Credentials
from consent_gateway.settings import EntraSettings
from support.gateway import HOME

CLIENT = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01"
END = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


def credentials(**changes: Any) -> Credentials:
    return Credentials(EntraSettings(home_tenant_id=HOME, **changes))


def pem(*, ends: datetime = END) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vision-one")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=365))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


def test_what_is_specific_goes_first_then_the_stronger(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared.secret", tmp_path / f"{CLIENT}.secret"
    shared.write_text("from the path\n")
    settings = {"client_secret": SecretStr("plain"), "client_secret_path": shared, "credentials_dir": tmp_path}
    assert credentials(client_secret=SecretStr("plain")).of(CLIENT) == "plain"
    held = credentials(**settings)
    assert held.of(CLIENT) == "from the path"
    shared.write_text("rotated")
    assert held.of(CLIENT) == "rotated"
    own.write_text("own")
    assert held.of(CLIENT) == "own"
    (tmp_path / f"{CLIENT}.pem").write_text(pem())
    assert isinstance(held.of(CLIENT), dict)


@pytest.mark.parametrize("where", ["directory", "path"])
def test_a_refused_credential_is_followed_by_its_successor_and_back(tmp_path: Path, where: str) -> None:
    names = {"directory": (f"{CLIENT}.secret", f"{CLIENT}.next.secret"), "path": ("s.txt", "s.txt.next")}[where]
    (tmp_path / names[0]).write_text("old")
    here = {"directory": {"credentials_dir": tmp_path}, "path": {"client_secret_path": tmp_path / "s.txt"}}[where]
    held = credentials(**here)
    assert not held.turn_over(CLIENT, refused=held.turn(CLIENT))
    (tmp_path / names[1]).write_text("new")
    assert held.of(CLIENT) == "old"
    seen = held.turn(CLIENT)
    # Many are refused at the same moment: they all end with the successor.
    assert all(held.turn_over(CLIENT, refused=seen) for _ in range(4))
    assert held.of(CLIENT) == "new"
    assert held.turn_over(CLIENT, refused=held.turn(CLIENT))
    assert held.of(CLIENT) == "old"
    # The rotation ends: the successor takes the place of the one before.
    (tmp_path / names[1]).replace(tmp_path / names[0])
    assert held.of(CLIENT) == "new"


def test_each_kind_says_when_it_ends(tmp_path: Path) -> None:
    held = credentials(
        credentials_dir=tmp_path, client_secret=SecretStr("plain"), credential_expires={CLIENT: date(2027, 1, 2)}
    )
    (secret,) = held.held(CLIENT)
    assert (secret.kind, secret.name, secret.expires_at) == (
        "secret",
        "ENTRA__CLIENT_SECRET",
        datetime(2027, 1, 2, tzinfo=UTC),
    )
    (tmp_path / f"{CLIENT}.secret").write_text("present")
    (tmp_path / f"{CLIENT}.next.secret").write_text("its successor")
    # The date was written down for the one that is there.
    assert [one.expires_at for one in held.held(CLIENT)] == [datetime(2027, 1, 2, tzinfo=UTC), None]
    (tmp_path / f"{CLIENT}.next.secret").unlink()
    (tmp_path / f"{CLIENT}.jwt").write_text(jwt.encode({"exp": END}, "a key that is as long as it must be 32"))
    (assertion,) = held.held(CLIENT)
    assert (assertion.kind, assertion.expires_at) == ("assertion", END)
    (tmp_path / f"{CLIENT}.pem").write_text(pem())
    (tmp_path / f"{CLIENT}.next.pem").write_text(pem(ends=END + timedelta(days=365)))
    present, following = held.held(CLIENT)
    assert (present.kind, present.name, present.expires_at) == ("certificate", f"{CLIENT}.pem", END)
    assert (following.name, following.expires_at) == (f"{CLIENT}.next.pem", END + timedelta(days=365))
    assert present.fingerprint != following.fingerprint
    assert present.thumbprint is not None
    assert len(present.thumbprint) == 40


def test_what_is_said_of_a_credential_never_holds_it(tmp_path: Path) -> None:
    secret = "abc-very-secret-value"
    (tmp_path / f"{CLIENT}.secret").write_text(secret)
    (held,) = credentials(credentials_dir=tmp_path).held(CLIENT)
    assert held.hint == "abc"
    assert "abc" not in repr(held)
    assert secret not in held.fingerprint


def test_a_certificate_that_is_none_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / f"{CLIENT}.pem"
    path.write_text("nothing")
    with pytest.raises(CredentialError, match=f"{CLIENT}.pem: must hold a private key"):
        credentials(credentials_dir=tmp_path).check([CLIENT])
