"""The RSA keys that tokens are signed with, and the key sets that are published for them."""

import base64
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from jwt.utils import to_base64url_uint

from entra_sandbox.model import CONSUMER_TENANT_ID, Frozen, derived_id
from entra_sandbox.store import Collection, Store

NEIGHBOUR_TENANT_ID = derived_id("neighbour tenant")
"""A tenant that does not exist here; one published key belongs to it alone."""
FOREIGN_ISSUER = "https://login.foreign-cloud.example/{tenantid}/v2.0"
"""Issuer of another cloud; one published key belongs to it."""
_ROLES = ("current", "next", "consumers", "foreign", "neighbour", "unpublished")


class StoredKey(Frozen):
    """A private key with the certificate that its `x5c` shows."""

    private_key: str
    certificate: str


class Secret(Frozen):
    """A random value that outlives restarts, such as the key that session cookies are signed with."""

    value: str


@dataclass(frozen=True)
class SigningKey:
    """A key ready for use. `kid` and `x5t` are the certificate's SHA-1 thumbprint, as with Entra."""

    private: rsa.RSAPrivateKey
    certificate: x509.Certificate = field(repr=False)

    @cached_property
    def kid(self) -> str:
        """Names the key in token headers and key sets."""
        thumbprint = self.certificate.fingerprint(hashes.SHA1())  # noqa: S303 a name, not a protection
        return base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()

    def jwk(self, issuer: str) -> dict[str, object]:
        """The public key as Entra publishes it, with the issuer whose tokens it may sign."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": to_base64url_uint(numbers.n).decode(),
            "e": to_base64url_uint(numbers.e).decode(),
            "x5c": [base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()],
            "cloud_instance_name": "microsoftonline.com",
            "issuer": issuer,
        }


class KeyRing:
    """All keys, made at the first start and kept."""

    def __init__(self, store: Store) -> None:
        self._stored = Collection(store, "signing_key", StoredKey)
        self._secrets = Collection(store, "secret", Secret)
        missing = [role for role in _ROLES if self._stored.get(role) is None]
        if missing:
            with ThreadPoolExecutor() as pool:
                made = list(pool.map(_make, missing))
            self._stored.put_all(dict(zip(missing, made, strict=True)))
        self._keys: dict[str, SigningKey] = {}
        self._load()

    def _load(self) -> None:
        self._keys = {role: _open(item) for role, item in self._stored.items()}

    def __getitem__(self, role: str) -> SigningKey:
        return self._keys[role]

    def secret(self, name: str) -> str:
        """A random value of that name, made when it is first asked for."""
        found = self._secrets.get(name) or self._secrets.put(name, Secret(value=secrets.token_hex(32)))
        return found.value

    def rotate(self, *, keep_previous: bool = True) -> None:
        """Makes the next key the current one; the key that signed until now stays published only if asked for."""
        current, following = self._stored.get("current"), self._stored.get("next")
        if current is None or following is None:
            raise LookupError("the signing keys are gone from the store")
        renewed = {"current": following, "next": _make("next")}
        if keep_previous:
            renewed["previous"] = current
        else:
            self._stored.delete("previous")
        self._stored.put_all(renewed)
        self._load()

    def verification_keys(self) -> dict[str, rsa.RSAPublicKey]:
        """Public keys that Graph trusts, by `kid`."""
        trusted = [self._keys[role] for role in ("current", "next", "previous") if role in self._keys]
        return {key.kid: key.private.public_key() for key in trusted}

    def key_set(self, issuer_template: str) -> list[dict[str, object]]:
        """The keys of every endpoint: those of work tenants carry the template with `{tenantid}`, others their own."""
        ours = [role for role in ("current", "next", "previous") if role in self._keys]
        return [
            *(self._keys[role].jwk(issuer_template) for role in ours),
            self._keys["consumers"].jwk(issuer_template.replace("{tenantid}", CONSUMER_TENANT_ID)),
            self._keys["neighbour"].jwk(issuer_template.replace("{tenantid}", NEIGHBOUR_TENANT_ID)),
            self._keys["foreign"].jwk(FOREIGN_ISSUER),
        ]


def _make(role: str) -> StoredKey:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    common_name = "Live ID STS Signing Public Key" if role == "consumers" else "accounts.accesscontrol.windows.net"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1825))
        .sign(key, hashes.SHA256())
    )
    return StoredKey(
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
    )


def _open(item: StoredKey) -> SigningKey:
    # Checking the numbers of a key that was made here costs 40 ms each, at every start.
    private = serialization.load_pem_private_key(item.private_key.encode(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise TypeError("a signing key in the store is not an RSA key")
    return SigningKey(private, x509.load_pem_x509_certificate(item.certificate.encode()))
