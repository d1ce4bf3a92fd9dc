"""How our client registrations authenticate: a certificate, a federated assertion or a secret; read when it is used.

Reading anew each time is what lets an operator rotate a credential by replacing a file, without a restart. Beside each
file there may be its successor (``{client_id}.next.pem``, or ``.next`` after the path of a setting): when Entra refuses
the one, the other is used from then on, so that both ends of a rotation need not happen at the same moment.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from consent_gateway.settings import EntraSettings

_BLOCK = re.compile(r"-----BEGIN (?P<label>[A-Z ]+)-----.+?-----END (?P=label)-----", re.DOTALL)


class CredentialError(Exception):
    """A registration has no usable credential; the message names the file, never its content."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A credential as it may be spoken of. ``fingerprint`` tells it from its successor, and nothing of what it is.

    ``expires_at`` is what the credential itself says, for a secret what the settings say. ``thumbprint`` is the SHA-1
    of a certificate, by which Entra lists it; ``hint`` the start of a secret, by which Entra lists that, never shown.
    """

    client_id: str
    name: str
    kind: str
    fingerprint: str
    expires_at: datetime | None
    thumbprint: str | None = None
    hint: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a credential is: a file, or the value of a setting."""

    kind: str
    name: str
    path: Path | None = None
    value: str | None = field(default=None, repr=False)
    successor: bool = False

    def text(self) -> str:
        return _text(self.path) if self.path is not None else self.value or ""


class Credentials:
    """The credential of each client registration, in the form that msal takes."""

    def __init__(self, settings: EntraSettings) -> None:
        self._directory = settings.credentials_dir
        self._certificate = settings.client_certificate_path
        self._secret_path = settings.client_secret_path
        self._secret = settings.client_secret
        self._expires = settings.credential_expires
        self._turned: dict[str, int] = {}

    def check(self, client_ids: Iterable[str]) -> None:
        """Raise ``CredentialError`` unless each registration has a credential that can be read."""
        for client_id in client_ids:
            self.of(client_id)

    def of(self, client_id: str) -> str | dict[str, Any]:
        """Msal's ``client_credential``. What is specific to the registration goes first, then the stronger.

        Raises:
            CredentialError: there is none, or its file can't be used.
        """
        sources = self._sources(client_id)
        source = sources[self.turn(client_id) % len(sources)]
        if source.kind == "certificate":
            return _certificate(source.text(), source.path)
        text = source.text()
        # Whoever issues an assertion writes the file anew before it expires: msal reads it when it needs it.
        return {"client_assertion": source.text} if source.kind == "assertion" else text

    def turn(self, client_id: str) -> int:
        """How often the registration went over to its other credential; to be handed to ``turn_over``."""
        return self._turned.get(client_id, 0)

    def turn_over(self, client_id: str, *, refused: int) -> bool:
        """Go over to the other credential because Entra refused the one of that turn; False where there is no other.

        Of many that were refused at once, the first one turns, and the others find it turned.
        """
        if len(self._sources(client_id)) < 2:
            return False
        if self.turn(client_id) == refused:
            self._turned[client_id] = refused + 1
        return True

    def held(self, client_id: str) -> tuple[Held, ...]:
        """The registration's credentials, the present one first.

        Raises:
            CredentialError: one of them can't be read.
        """
        return tuple(self._describe(client_id, source) for source in self._sources(client_id))

    def _sources(self, client_id: str) -> list[_Source]:
        """The credential and its successor, if there is one.

        Raises:
            CredentialError: there is none.
        """
        present = next(self._candidates(client_id), None)
        if present is None:
            raise CredentialError(
                f"ENTRA__CREDENTIALS_DIR holds no {client_id}.pem, .jwt or .secret, and nothing else is set"
            )
        following = next(self._successors(client_id, present), None)
        return [present] if following is None else [present, following]

    def _candidates(self, client_id: str) -> Iterator[_Source]:
        yield from self._in_directory(client_id)
        if self._certificate is not None:
            yield _Source(kind="certificate", name="ENTRA__CLIENT_CERTIFICATE_PATH", path=self._certificate)
        if self._secret_path is not None:
            yield _Source(kind="secret", name="ENTRA__CLIENT_SECRET_PATH", path=self._secret_path)
        if self._secret is not None:
            yield _Source(kind="secret", name="ENTRA__CLIENT_SECRET", value=self._secret.get_secret_value())

    def _successors(self, client_id: str, present: _Source) -> Iterator[_Source]:
        for source in self._in_directory(f"{client_id}.next"):
            yield replace(source, successor=True)
        if present.path is not None and present.name.startswith("ENTRA__"):
            path = present.path.with_name(f"{present.path.name}.next")
            if path.is_file():
                yield _Source(kind=present.kind, name=f"{present.name} (next)", path=path, successor=True)

    def _in_directory(self, stem: str) -> Iterator[_Source]:
        if self._directory is not None:
            for suffix, kind in ((".pem", "certificate"), (".jwt", "assertion"), (".secret", "secret")):
                path = self._directory / f"{stem}{suffix}"
                if path.is_file():
                    yield _Source(kind=kind, name=path.name, path=path)

    def _describe(self, client_id: str, source: _Source) -> Held:
        text = source.text()
        if source.kind == "certificate":
            certificate = _parsed(_certificate(text, source.path)["public_certificate"], source.path)
            content = certificate.public_bytes(Encoding.DER)
            return Held(
                client_id=client_id,
                name=source.name,
                kind=source.kind,
                fingerprint=_fingerprint(client_id, content),
                expires_at=certificate.not_valid_after_utc,
                thumbprint=hashlib.sha1(content, usedforsecurity=False).hexdigest(),
            )
        expires_at = _exp(text) if source.kind == "assertion" else self._configured(client_id, source)
        return Held(
            client_id=client_id,
            name=source.name,
            kind=source.kind,
            fingerprint=_fingerprint(client_id, text.encode()),
            expires_at=expires_at,
            hint=text[:3] if source.kind == "secret" else None,
        )

    def _configured(self, client_id: str, source: _Source) -> datetime | None:
        """A secret doesn't say when it ends. A date that was configured is the present one's, not its successor's."""
        day = self._expires.get(client_id) if not source.successor else None
        return datetime.combine(day, time(), UTC) if day is not None else None


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise CredentialError(f"{path}: can't be read") from None
    if not text:
        raise CredentialError(f"{path}: is empty")
    return text


def _certificate(text: str, name: object) -> dict[str, Any]:
    blocks = {match["label"]: match[0] for match in _BLOCK.finditer(text)}
    keys = [block for label, block in blocks.items() if label.endswith("PRIVATE KEY")]
    if not keys or "CERTIFICATE" not in blocks:
        raise CredentialError(f"{name}: must hold a private key and its certificate")
    # With the certificate, msal signs by PS256 and names it by its SHA-256 thumbprint.
    return {"private_key": keys[0], "public_certificate": blocks["CERTIFICATE"]}


def _parsed(pem: str, name: object) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise CredentialError(f"{name}: holds a certificate that can't be read") from None


def _exp(assertion: str) -> datetime | None:
    """When a federated assertion ends (RFC 7519); it is for Entra to validate, so its signature is left alone."""
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _fingerprint(client_id: str, content: bytes) -> str:
    return hashlib.sha256(client_id.encode() + b":" + content).hexdigest()[:16]
