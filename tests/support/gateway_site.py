"""The whole gateway over HTTP, in this process, with people who are signed in by real cookies of real sessions."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any

import httpx
from fastapi import FastAPI

from consent_gateway.app import create_app
from consent_gateway.settings import Settings
from consent_gateway.web.sessions import Identity, Sessions, csrf_token
from shared.auth import Principal
from shared.mongo import Database
from support.gateway import PUBLIC_URL


@dataclass
class Site:
    """The gateway's application."""

    app: FastAPI
    sessions: Sessions
    database: Database

    def browser(self, *, fetch_site: str = "same-origin", origin: str = PUBLIC_URL) -> "Visit":
        """A browser without cookies."""
        transport = httpx.ASGITransport(self.app)
        return Visit(httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL), self, origin, fetch_site)

    async def signed_in(
        self,
        account_id: str = "northwind",
        *roles: str,
        subject: str = "operator-1",
        access_token: str = "AT.secret",
    ) -> "Visit":
        """A browser of a person of the account."""
        principal = Principal(
            subject=subject,
            account_id=account_id,
            account_name=account_id.title(),
            app_id=None,
            roles=frozenset(roles or ("operator",)),
            expires_at=int(time()) + 3_600,
        )
        identity = Identity(
            principal=principal, name=f"{subject} by name", access_token=access_token, id_token="IT.secret"
        )
        visit = self.browser()
        visit.cookie = await self.sessions.start(identity, replacing=None)
        visit.http.cookies.set("consent_console", visit.cookie)
        return visit


@dataclass
class Visit:
    """A browser in front of the gateway. It follows no redirect by itself."""

    http: httpx.AsyncClient
    site: Site
    origin: str
    fetch_site: str
    cookie: str = ""
    pages: list[httpx.Response] = field(default_factory=list)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """Open a page."""
        self.pages.append(await self.http.get(path, **options))
        return self.pages[-1]

    async def post(
        self, path: str, fields: Mapping[str, Any] | None = None, *, csrf: str | None = None
    ) -> httpx.Response:
        """Send a form as a page of the gateway would, with the form token of this browser's session."""
        token = csrf if csrf is not None else csrf_token(self.cookie) if self.cookie else ""
        headers = {"origin": self.origin, "sec-fetch-site": self.fetch_site}
        form = {**({"csrf_token": token} if token else {}), **(fields or {})}
        self.pages.append(await self.http.post(path, data=form, headers=headers))
        return self.pages[-1]


def form_token(page: httpx.Response) -> str:
    """The form token of a page."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


@asynccontextmanager
async def site(settings: Settings, database: Database, *, indexes: bool = True) -> AsyncIterator[Site]:
    """The gateway's application; nothing runs in the background."""
    sessions = Sessions(database, secret=settings.console.session_secret.get_secret_value())
    if indexes:
        await sessions.create_indexes()
    yield Site(create_app(settings), sessions, database)
