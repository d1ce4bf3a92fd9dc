"""An Entra that costs next to nothing, in a process of its own: every tenant exists and has consented to everything.

It speaks HTTP/1.1 over TLS on one event loop: discovery, app-only tokens (shaped like real ones, signed by nobody) and
Graph's ``/organization``; ``/count`` says how often each was asked.
"""

import asyncio
import base64
import json
import ssl
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typing_extensions import override

ROLES = ["Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"]
DAY = timedelta(days=1)
SIGNATURE = base64.urlsafe_b64encode(b"s" * 256).rstrip(b"=").decode()


class Connection(asyncio.Protocol):
    """One connection; requests come one after another, as httpx sends them."""

    def __init__(self, origin: str, asked: Counter[str]) -> None:
        self._origin = origin
        self._asked = asked
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports derive from none of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode()
            length = 0
            for line in head.split("\r\n")[1:]:
                if line.lower().startswith("content-length:"):
                    length = int(line.split(":")[1])
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length].decode()
            self._buffer = self._buffer[end + 4 + length :]
            content = json.dumps(self._answer(head.split(" ", 2)[1], head, body)).encode()
            assert self._transport is not None
            head_out = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
            self._transport.write(head_out + content)

    def _answer(self, path: str, head: str, body: str) -> object:
        if path == "/count":
            return dict(self._asked)
        tenant = path.split("/")[1]
        if path.endswith("/token"):
            self._asked["token"] += 1
            token = _token(tenant, parse_qs(body)["client_id"][0])
            return {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token}
        if path.startswith("/v1.0/organization"):
            self._asked["graph"] += 1
            payload = head.split("Bearer ")[1].split(".")[1]
            tenant = json.loads(base64.urlsafe_b64decode(payload + "=="))["tid"]
            domains = [{"name": f"tenant-{tenant[-12:]}.example", "isDefault": True, "isInitial": True}]
            return {"value": [{"id": tenant, "displayName": f"Tenant {tenant[-12:]}", "verifiedDomains": domains}]}
        self._asked["discovery"] += 1
        return {
            "issuer": f"{self._origin}/{tenant}/v2.0",
            "authorization_endpoint": f"{self._origin}/{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{self._origin}/{tenant}/oauth2/v2.0/token",
            "jwks_uri": f"{self._origin}/{tenant}/discovery/v2.0/keys",
        }


def _token(tenant: str, client_id: str) -> str:
    """About as long as Entra's, with the claims that a check looks at."""
    claims = {"tid": tenant, "appid": client_id, "roles": ROLES, "aud": "https://graph.microsoft.com", "ver": "1.0"}
    parts = ({"alg": "RS256", "typ": "JWT"}, claims | {"xms": "x" * 600})
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{text}.{SIGNATURE}"


def certify(folder: Path) -> None:
    """A certificate for the loopback address, that is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - DAY, now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


async def serve(folder: Path) -> None:
    """Answer until the process ends; the port is in the file ``port`` once it listens."""
    certify(folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    asked: Counter[str] = Counter()
    origin = ""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(origin, asked), "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    origin = f"https://127.0.0.1:{port}"
    (folder / "port.new").write_text(str(port))
    (folder / "port.new").rename(folder / "port")
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
