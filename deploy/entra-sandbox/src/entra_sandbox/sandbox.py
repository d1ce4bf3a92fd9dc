"""The parts of a running sandbox, put together once and handed to the routes."""

import asyncio
from dataclasses import dataclass, field

from entra_sandbox.codes import Codes
from entra_sandbox.directory import Directory
from entra_sandbox.faults import Faults
from entra_sandbox.pages import Pages
from entra_sandbox.request_log import RequestLog
from entra_sandbox.seed import Seed
from entra_sandbox.sessions import Sealer
from entra_sandbox.signing_keys import KeyRing
from entra_sandbox.store import Store
from entra_sandbox.tokens import TokenIssuer


@dataclass(frozen=True)
class Urls:
    """Where the three listeners are reached."""

    browser: str
    login: str
    graph: str


@dataclass(frozen=True)
class Sandbox:
    """Everything the routes work with."""

    store: Store
    urls: Urls
    directory: Directory
    keys: KeyRing
    tokens: TokenIssuer
    codes: Codes
    faults: Faults
    sealer: Sealer
    pages: Pages
    requests: RequestLog
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is told to stop: nobody is kept waiting any longer."""

    def reset(self) -> None:
        """Back to the first start: the seed, no grants, no troubles, no requests. Keys and CA stay."""
        self.store.clear()
        self.directory.reload()
        self.codes.reload()
        self.faults.reload()
        self.requests.clear()


def assemble(store: Store, seed: Seed, urls: Urls, *, redirect_uris: tuple[str, ...]) -> Sandbox:
    """Puts the parts together over a store."""
    keys = KeyRing(store)
    return Sandbox(
        store=store,
        urls=urls,
        directory=Directory(store, seed, redirect_uris=redirect_uris),
        keys=keys,
        tokens=TokenIssuer(keys, login_url=urls.login),
        codes=Codes(store),
        faults=Faults(store),
        sealer=Sealer(keys.secret("forms_and_cookies")),
        pages=Pages(),
        requests=RequestLog(),
    )
