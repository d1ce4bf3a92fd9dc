"""The operator's proxy: how it is spoken to, and whether it is there at all when nothing came back through it."""

import asyncio
from time import monotonic

import aiohttp
from pydantic import SecretStr
from yarl import URL

# How long it may take to say anything, and how long it is taken at its word.
PROBE_SECONDS = 1.0
HOLDS_SECONDS = 1.0


class Proxy:
    """An HTTP proxy; ``headers`` are those that it alone is to see."""

    def __init__(self, url: SecretStr) -> None:
        whole = URL(url.get_secret_value())
        self.url = whole.with_user(None) if whole.user is not None else whole
        self.headers: dict[str, str] = {}
        if whole.user is not None:
            self.headers["Proxy-Authorization"] = aiohttp.encode_basic_auth(whole.user, whole.password or "")
        self._asked: asyncio.Task[bool] | None = None
        self._asked_at = float("-inf")

    async def answers(self) -> bool:
        """Whether it says anything at all to a request for itself, which every proxy refuses in its own way.

        A tunnel that isn't opened in time may be its fault or the endpoint's; this tells the two apart. Whoever asks at
        the same moment shares one look, of ``PROBE_SECONDS`` at most.
        """
        if self._asked is None or monotonic() - self._asked_at > HOLDS_SECONDS:
            self._asked, self._asked_at = asyncio.create_task(self._ask()), monotonic()
        return await asyncio.shield(self._asked)

    async def _ask(self) -> bool:
        host, writer = self.url.host or "", None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                reader, writer = await asyncio.open_connection(host, self.url.port)
                writer.write(f"GET / HTTP/1.1\r\nHost: {self.url.authority}\r\nConnection: close\r\n\r\n".encode())
                # Its end is an answer too: one that hangs does not close.
                await reader.read(1)
        except OSError:
            return False
        finally:
            if writer is not None:
                writer.close()
        return True
