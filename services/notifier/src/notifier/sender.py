"""The HTTP client for webhooks: one POST, within its deadlines, to an address that was checked when it was dialled."""

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Any

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver
from yarl import URL

from notifier.addresses import RefusedUrl, check_url, is_public, literal
from notifier.deliveries import PROXY_UNREACHABLE, Attempt
from notifier.proxying import PROBE_SECONDS, Proxy
from notifier.resolving import Dial, Resolver, dial
from notifier.settings import DeliverySettings

log = structlog.get_logger(__name__)

USER_AGENT = "consent-platform-notifier/1"
RESOLVE_AT_CREATE_SECONDS = 5.0
# Names that owners write into their subscriptions are looked up apart from those that webhooks go to.
CHECKING_THREADS = 8
CHECKS_PER_OWNER = 2
# Of names that a proxy may be asked for: how long an answer holds, as in the client's own cache, and how many are kept.
LOOKED_AT_SECONDS = 10.0
LOOKED_AT = 4096
# How a kept connection breaks that the endpoint closed at the moment we used it; that is no failure of the endpoint.
_STALE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError, BrokenPipeError)


class ForbiddenAddress(OSError):
    """The address about to be dialled isn't a public one."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "address not allowed")


class Sender:
    """Sends webhooks. Redirects are not followed, proxies of the environment are not used, answers are not unpacked.

    With a proxy, only the proxy is ever dialled from here. What a name leads to is then looked at before each attempt,
    which is less than at the dial: the proxy looks it up once more, and it is the proxy that has to refuse.
    """

    def __init__(self, settings: DeliverySettings, *, resolver: AbstractResolver | None = None) -> None:
        self._settings = settings
        self._resolver = resolver or Resolver()
        self._checking = resolver or Resolver(threads=CHECKING_THREADS, per_owner=CHECKS_PER_OWNER)
        self._timeout = aiohttp.ClientTimeout(
            total=settings.total_timeout_seconds,
            connect=settings.connect_timeout_seconds,
            sock_read=settings.response_timeout_seconds,
        )
        self._session: aiohttp.ClientSession | None = None
        self._proxy = Proxy(settings.proxy_url) if settings.proxy_url is not None else None
        self._looked_at: dict[str, float] = {}
        # A subscription may be older than the settings, so its URL is looked at again.
        self._allowed = lru_cache(maxsize=4096)(self._is_allowed)

    async def open(self) -> None:
        """Make the session; to be called on the loop that will use it."""
        context = ssl.create_default_context()
        if self._settings.ca_bundle is not None:
            context.load_verify_locations(self._settings.ca_bundle)
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            ssl=context,
            limit=0,  # attempts are bounded before they get here, per endpoint and in all
            socket_factory=self._socket,
            keepalive_timeout=30,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/json", "Accept-Encoding": "identity"},
            skip_auto_headers=("Accept",),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()
        await self._checking.close()

    async def check(self, url: str, *, owner: str = "") -> None:
        """Raise ``RefusedUrl`` unless webhooks may go to this URL now; what is dialled is checked again each time."""
        private = self._settings.allow_private_networks
        self._check_text(url)
        host = URL(url).host or ""
        if private or literal(host) is not None:
            return
        dial.set(Dial(owner))
        try:
            async with asyncio.timeout(RESOLVE_AT_CREATE_SECONDS):
                answers = await self._checking.resolve(host, 443, socket.AF_UNSPEC)
        except (OSError, TimeoutError, UnicodeError) as error:
            if self._proxy is not None and isinstance(error, socket.gaierror):
                return  # perhaps the proxy knows it
            raise RefusedUrl("That host name can't be resolved. Create the name first.") from None
        if not answers or not all(self._may_dial(answer["host"]) for answer in answers):
            raise RefusedUrl("That host is not on the public Internet.")

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], owner: str = "") -> Attempt:
        """POST the body and return what came of it; every failure of the endpoint or the network is an outcome too.

        ``owner`` is whose endpoint it is: look-ups of names are bounded for each.

        An answer counts when it is complete (up to the part that is kept): a 2xx whose body never ends is a timeout.
        """
        at, started = datetime.now(UTC), perf_counter()
        if not self._allowed(url):
            return Attempt(at=at, duration_ms=0, error="url_not_allowed")
        answer: dict[str, Any] = {}
        request = Dial(owner)
        dial.set(request)
        try:
            try:
                if self._proxy is not None:
                    await self._look_up(url)
                await self._exchange(url, body, headers, answer)
            except _STALE:
                if request.dialled or "status_code" in answer:
                    raise
                left = self._settings.total_timeout_seconds - (perf_counter() - started)
                async with asyncio.timeout(left):
                    await self._exchange(url, body, headers, answer)
        except Exception as failure:  # noqa: BLE001 - the POST may have arrived: whatever it was, it is an outcome
            left = self._settings.total_timeout_seconds - (perf_counter() - started)
            answer["error"] = PROXY_UNREACHABLE if await self._hung(failure, left) else error_class(failure)
            # Not its text: that holds the URL, and a URL can hold a receiver's token.
            log.info(
                "delivery.post_failed",
                error=answer["error"],
                failure=type(failure).__name__,
                number=getattr(failure, "errno", None),
                host=URL(url, encoded=True).host,
            )
        return Attempt(at=at, duration_ms=round((perf_counter() - started) * 1000), **answer)

    def _is_allowed(self, url: str) -> bool:
        try:
            self._check_text(url)
        except RefusedUrl:
            return False
        return True

    def _check_text(self, url: str) -> None:
        settings = self._settings
        check_url(
            url,
            private_allowed=settings.allow_private_networks,
            ports=settings.ports,
            refused=settings.refused_networks,
        )

    async def _exchange(self, url: str, body: bytes, headers: Mapping[str, str], answer: dict[str, Any]) -> None:
        if self._session is None:
            raise RuntimeError("the sender is not open")
        async with self._session.post(
            URL(url, encoded=True),
            data=body,
            # There is no tunnel for plain http: then the proxy reads the request itself.
            headers=headers if self._proxy is None or url.startswith("https:") else {**headers, **self._proxy.headers},
            allow_redirects=False,
            proxy=None if self._proxy is None else self._proxy.url,
            proxy_headers=None if self._proxy is None else self._proxy.headers,
        ) as response:
            answer["status_code"] = response.status
            answer["retry_after"] = response.headers.get("Retry-After")
            kept = self._settings.response_body_bytes
            received = bytearray()
            while len(received) <= kept and (chunk := await response.content.read(kept + 1 - len(received))):
                received += chunk
            answer["response_body"] = _text(bytes(received[:kept]), kept)
            answer["truncated"] = len(received) > kept
            if answer["truncated"]:
                response.close()

    async def _look_up(self, url: str) -> None:
        """Raise unless, as far as can be told here, the proxy would dial a public address for this URL."""
        host, now = URL(url, encoded=True).host or "", monotonic()
        if self._settings.allow_private_networks or literal(host) is not None or now < self._looked_at.get(host, 0.0):
            return
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                answers = await self._resolver.resolve(host, 443, socket.AF_UNSPEC)
        except socket.gaierror:
            answers = []  # perhaps the proxy knows it
        if not all(self._may_dial(answer["host"]) for answer in answers):
            raise ForbiddenAddress
        if len(self._looked_at) >= LOOKED_AT:
            self._looked_at.clear()
        self._looked_at[host] = now + LOOKED_AT_SECONDS

    async def _hung(self, failure: Exception, left: float) -> bool:
        """Whether the time passed because the proxy hangs; asked only where the attempt has time left for it."""
        if self._proxy is None or not isinstance(failure, TimeoutError) or left < PROBE_SECONDS:
            return False
        return not await self._proxy.answers()

    def _may_dial(self, address: str) -> bool:
        return is_public(ipaddress.ip_address(address), refused=self._settings.refused_networks)

    def _socket(self, info: Any) -> socket.socket:  # noqa: ANN401 - aiohttp's AddrInfoType is private
        """Called with the very address that is dialled next, literal or resolved, on every connection."""
        family, kind, protocol, _, address = info
        request = dial.get()
        if request is not None:
            request.dialled = True
        # With a proxy it is the proxy that is dialled, wherever it is.
        if not (self._settings.allow_private_networks or self._proxy or self._may_dial(address[0])):
            raise ForbiddenAddress
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _text(received: bytes, size: int) -> str:
    """The bytes as text that takes no more room than ``size``: a byte that isn't UTF-8 becomes three."""
    return received.decode(errors="replace").encode()[:size].decode(errors="ignore")


_ERROR_CLASSES: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientProxyConnectionError, PROXY_UNREACHABLE),
    (aiohttp.ClientHttpProxyError, "proxy_refused"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "dns_error"),
    (aiohttp.ClientSSLError, "tls_error"),
    (ssl.SSLError, "tls_error"),
    (aiohttp.ClientConnectorError, "connection_failed"),
    (aiohttp.ClientPayloadError, "invalid_response"),
    (aiohttp.ClientResponseError, "invalid_response"),
    (OSError, "connection_lost"),
    (aiohttp.ServerDisconnectedError, "connection_lost"),
)


def error_class(failure: BaseException) -> str:
    """A word for the endpoint's owner. Details stay in our log: told to tenants, they would map our network."""
    link: BaseException | None = failure
    for _ in range(8):
        if isinstance(link, ForbiddenAddress):
            return "address_not_allowed"
        link = (link.__cause__ or link.__context__) if link is not None else None
    return next((word for kind, word in _ERROR_CLASSES if isinstance(failure, kind)), "request_failed")
