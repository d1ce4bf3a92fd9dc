"""The issuer's signing keys: one file, readable by its owner only, that a second process may rotate."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

_FILE_NAME = "signing-keys.json"
_ALGORITHM = "RS256"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One RSA key. ``kid`` is its JWK thumbprint (RFC 7638), ``created_at`` is in unix seconds."""

    kid: str
    created_at: int
    private_key: RSAPrivateKey

    @classmethod
    def generate(cls, *, created_at: int) -> "SigningKey":
        """A new key of 2048 bits."""
        return cls.from_private_key(generate_private_key(65537, 2048), created_at=created_at)

    @classmethod
    def from_private_key(cls, private_key: RSAPrivateKey, *, created_at: int) -> "SigningKey":
        """The key with the ``kid`` that belongs to it."""
        public = _public_jwk(private_key)
        thumbprint_input = json.dumps({name: public[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
        kid = jwt.utils.base64url_encode(sha256(thumbprint_input.encode()).digest()).decode()
        return cls(kid, created_at, private_key)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half, as it stands in the JWKS document."""
        return {**_public_jwk(self.private_key), "kid": self.kid, "use": "sig", "alg": _ALGORITHM}


class KeyRing:
    """Signs with the newest key and publishes every key whose signatures may still be alive.

    The file is read again when it changes, so that ``rotate`` in another process takes effect at once.

    Args:
        directory: where the file lives; made with mode 700 when missing.
        longest_life: seconds for which the longest-lived signature stays valid.
        now: unix seconds.
    """

    def __init__(self, directory: Path, *, longest_life: int, now: Callable[[], float] = time.time) -> None:
        self._path = directory / _FILE_NAME
        self._longest_life = longest_life
        self._now = now
        self._seen: tuple[int, int] | None = None
        self._keys: tuple[SigningKey, ...] = ()

    def ensure(self) -> None:
        """Make the first key where there is none.

        Two processes that start together agree on one key: the second to finish takes the first one's.

        Raises:
            OSError: the directory cannot be written, or the file cannot be read.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            written = self._write_beside((SigningKey.generate(created_at=int(self._now())),))
            try:
                os.link(written, self._path)
            except FileExistsError:
                pass
            finally:
                written.unlink()
        self.keys()

    def keys(self) -> tuple[SigningKey, ...]:
        """All published keys, the signing key last."""
        stat = self._path.stat()
        seen = (stat.st_ino, stat.st_mtime_ns)
        if seen != self._seen:
            self._keys = _load(self._path)
            self._seen = seen
        return self._keys

    def rotate(self) -> SigningKey:
        """Put a new signing key in place and drop the keys that no living signature needs any more."""
        now = int(self._now())
        new = SigningKey.generate(created_at=now)
        keys = (*self.keys(), new)
        kept = tuple(key for key, successor in pairwise(keys) if now - successor.created_at <= self._longest_life)
        self._write_beside((*kept, new)).replace(self._path)
        _sync_directory(self._path.parent)
        return new

    def jwks(self) -> dict[str, Any]:
        """The JWKS document (RFC 7517)."""
        return {"keys": [key.jwk for key in reversed(self.keys())]}

    def sign(self, claims: Mapping[str, Any], *, typ: str) -> str:
        """A compact JWS over the claims; ``typ`` says what it is for and is checked by ``verify``."""
        key = self.keys()[-1]
        return jwt.encode(dict(claims), key.private_key, _ALGORITHM, headers={"typ": typ, "kid": key.kid})

    def verify(self, token: str, *, typ: str, issuer: str, audience: str | None) -> dict[str, Any] | None:
        """The claims of a token that this ring signed, or None. Expiry is left to the caller.

        ``audience=None`` accepts any audience.
        """
        try:
            header = jwt.get_unverified_header(token)
            key = next(key for key in self.keys() if key.kid == header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key.private_key.public_key(),
                [_ALGORITHM],
                issuer=issuer,
                audience=audience,
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": audience is not None,
                },
            )
        except (jwt.InvalidTokenError, StopIteration):
            return None
        return claims if header.get("typ") == typ else None

    def _write_beside(self, keys: tuple[SigningKey, ...]) -> Path:
        document = [{"kid": key.kid, "created_at": key.created_at, "pem": _pem(key)} for key in keys]
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{_FILE_NAME}.")  # mode 600
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)


def _load(path: Path) -> tuple[SigningKey, ...]:
    keys = []
    for entry in json.loads(path.read_text(encoding="ascii")):
        private_key = serialization.load_pem_private_key(
            entry["pem"].encode(),
            password=None,
            unsafe_skip_rsa_key_validation=True,  # ours; the check takes 100 ms
        )
        if not isinstance(private_key, RSAPrivateKey):
            raise ValueError(f"{path} holds a key that is not RSA")  # noqa: TRY004 (the file is wrong, not the caller)
        keys.append(SigningKey.from_private_key(private_key, created_at=entry["created_at"]))
    if not keys:
        raise ValueError(f"{path} holds no key")
    return tuple(keys)


def _pem(key: SigningKey) -> str:
    return key.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public_jwk(private_key: RSAPrivateKey) -> dict[str, Any]:
    jwk = RSAAlgorithm.to_jwk(private_key.public_key(), as_dict=True)
    return {name: jwk[name] for name in ("kty", "n", "e")}


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
