"""How our client registrations authenticate: a certificate, a federated assertion or a secret; read when it is used.

Reading anew each time is what lets an operator rotate a credential by replacing a file, without a restart.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from consent_gateway.settings import EntraSettings

_BLOCK = re.compile(r"-----BEGIN (?P<label>[A-Z ]+)-----.+?-----END (?P=label)-----", re.DOTALL)


class CredentialError(Exception):
    """A registration has no usable credential; the message names the file, never its content."""


class Credentials:
    """The credential of each client registration, in the form that msal takes."""

    def __init__(self, settings: EntraSettings) -> None:
        self._directory = settings.credentials_dir
        self._certificate = settings.client_certificate_path
        self._secret = settings.client_secret

    def check(self, client_ids: Iterable[str]) -> None:
        """Raise ``CredentialError`` unless each registration has a credential that can be read."""
        for client_id in client_ids:
            self.of(client_id)

    def of(self, client_id: str) -> str | dict[str, Any]:
        """Msal's ``client_credential``. What is specific to the registration goes first, then the stronger.

        Raises:
            CredentialError: there is none, or its file can't be used.
        """
        if self._directory is not None:
            for suffix, read in ((".pem", _certificate), (".jwt", _assertion), (".secret", _text)):
                path = self._directory / f"{client_id}{suffix}"
                if path.is_file():
                    return read(path)
        if self._certificate is not None:
            return _certificate(self._certificate)
        if self._secret is not None:
            return self._secret.get_secret_value()
        raise CredentialError(
            f"ENTRA__CREDENTIALS_DIR holds no {client_id}.pem, .jwt or .secret, and nothing else is set"
        )


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise CredentialError(f"{path}: can't be read") from None
    if not text:
        raise CredentialError(f"{path}: is empty")
    return text


def _assertion(path: Path) -> dict[str, Any]:
    """A federated assertion (workload identity); whoever issues it writes the file anew before it expires."""
    _text(path)
    return {"client_assertion": lambda: _text(path)}


def _certificate(path: Path) -> dict[str, Any]:
    blocks = {match["label"]: match[0] for match in _BLOCK.finditer(_text(path))}
    keys = [block for label, block in blocks.items() if label.endswith("PRIVATE KEY")]
    if not keys or "CERTIFICATE" not in blocks:
        raise CredentialError(f"{path}: must hold a private key and its certificate")
    # With the certificate, msal signs by PS256 and names it by its SHA-256 thumbprint.
    return {"private_key": keys[0], "public_certificate": blocks["CERTIFICATE"]}
