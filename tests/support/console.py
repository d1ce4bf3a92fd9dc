"""The console's pages on their own: real sign-in and sessions, with a consent flow and tenants that a test sets."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI

from consent_gateway.catalog.file import load_catalog
from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import (
    Attempt,
    AttemptStatus,
    AttemptView,
    Ended,
    LinkView,
    NextStep,
    Person,
    Redirect,
    SetResult,
)
from consent_gateway.consent.failures import Failures
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Entra, Grant, Health, Tenant
from consent_gateway.settings import ConsoleSettings
from consent_gateway.web import callbacks, console, signin
from consent_gateway.web.guard import Gate
from consent_gateway.web.oidc import Provider
from consent_gateway.web.pages import Pages
from consent_gateway.web.security import FormTargets
from consent_gateway.web.sessions import Sessions
from shared import web
from shared.events import HeldApp, Permission
from shared.mongo import Database

HEARTBEAT_SECONDS = 0.2
ENTRA = "https://login.entra.test"
CONTOSO = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
FABRIKAM = "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"
SETS = ("read-directory-data", "read-activity-data", "manage-accounts", "read-protected-content", "read-saas-posture")
ADMINISTRATOR = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"


@cache
def packaged_catalog() -> Catalog:
    """The default catalogue, with the demo's client ids."""
    return load_catalog(None, {name: f"5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a0{n}" for n, name in enumerate(SETS, 1)})


def grant(catalog: Catalog, tenant_id: str, permission_set_id: str, **changes: Any) -> Grant:
    """A grant in order; ``changes`` are what is different about it."""
    wanted = catalog.sets[permission_set_id]
    delegated = tuple(each for each in wanted.required if each.type == "delegated")
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "account_id": "northwind",
        "tenant_id": tenant_id,
        "permission_set_id": permission_set_id,
        "version": wanted.version,
        "accepted": wanted.required,
        "entra": Entra.COMPLETE,
        "apps": wanted.apps,
        "app_epochs": {},
        "permissions": tuple(each for each in wanted.required if each not in delegated),
        "unverified": delegated,
        "accepted_at": now - timedelta(days=11),
        "verify_until": now - timedelta(days=10),
        "granted_at": now - timedelta(days=11),
        "granted_by": ADMINISTRATOR,
        "verified_at": now - timedelta(minutes=2),
        "health": Health(last_at=now - timedelta(minutes=2), last_good_at=now - timedelta(minutes=2)),
        "attempt_id": "a1",
        "revision": 1,
    }
    return Grant(**(values | changes))


def tenant(tenant_id: str, name: str | None, domain: str | None, *grants: Grant) -> Tenant:
    """A connected tenant."""
    return Tenant(
        account_id="northwind",
        tenant_id=tenant_id,
        tenant_name=name,
        primary_domain=domain,
        cloud="global",
        revision=1,
        updated_at=datetime.now(UTC),
        grants=grants,
        people={ADMINISTRATOR: "Contoso administrator"},
    )


def every_status(catalog: Catalog) -> list[Tenant]:
    """Two tenants that show every status there is."""

    def required(permission_set_id: str, *values: str) -> tuple[Permission, ...]:
        return tuple(each for each in catalog.sets[permission_set_id].required if each.value in values)

    def without(permission_set_id: str, *values: str) -> tuple[Permission, ...]:
        wanted = catalog.sets[permission_set_id].required
        return tuple(each for each in wanted if each.value not in values and each.type == "application")

    held = HeldApp(app_id="mobile-security", tenant_id=FABRIKAM, epoch=2)
    directory = catalog.sets["read-directory-data"]
    now = datetime.now(UTC)
    contoso = tenant(
        CONTOSO,
        "Contoso Ltd",
        "contoso.com",
        grant(catalog, CONTOSO, "read-directory-data", held_apps=(held,), apps=directory.apps[1:]),
        grant(
            catalog,
            CONTOSO,
            "read-activity-data",
            asks_more=True,
            version=0,
            accepted=without("read-activity-data", "Place.Read.All") + required("read-activity-data", "User.Read"),
            permissions=without("read-activity-data", "Place.Read.All"),
        ),
        grant(
            catalog,
            CONTOSO,
            "manage-accounts",
            entra=Entra.INCOMPLETE,
            permissions=without("manage-accounts", "User.ManageIdentities.All"),
            missing=required("manage-accounts", "User.ManageIdentities.All"),
        ),
    )
    fabrikam = tenant(
        FABRIKAM,
        "Fabrikam Inc",
        "fabrikam.com",
        grant(
            catalog,
            FABRIKAM,
            "read-directory-data",
            entra=Entra.VERIFYING,
            permissions=(),
            accepted_at=now - timedelta(minutes=1),
            verified_at=None,
            health=Health(),
        ),
        grant(catalog, FABRIKAM, "manage-accounts", blocked=True),
        grant(
            catalog,
            FABRIKAM,
            "read-saas-posture",
            entra=Entra.GONE,
            reason="removed",
            permissions=(),
            health=Health(last_at=now - timedelta(hours=3)),
        ),
    )
    return [contoso, fabrikam]


def attempt_view(catalog: Catalog, **changes: Any) -> AttemptView:
    """A run that granted one set on Contoso; ``changes`` are what is different about it."""
    now = datetime.now(UTC)
    first = catalog.sets[SETS[0]]
    values: dict[str, Any] = {
        "id": "3f0e8a7c5d1b4a69",
        "account_id": "northwind",
        "status": AttemptStatus.SUCCEEDED,
        "permission_set_ids": (first.id,),
        "set_titles": (first.title,),
        "results": (
            SetResult(permission_set_id=first.id, title=first.title, outcome=AttemptStatus.SUCCEEDED, status="granted"),
        ),
        "tenant_id": CONTOSO,
        "tenant_name": "Contoso Ltd",
        "primary_domain": "contoso.com",
        "failure": None,
        "error_code": None,
        "next_step": NextStep.NONE,
        "reference": "3f0e8a7c5d1b4a69",
        "return_url": None,
        "consent_url": None,
        "created_at": now,
        "expires_at": now + timedelta(minutes=10),
    }
    return AttemptView(**(values | changes))


@dataclass
class ScriptedConsent:
    """Stands in for the consent flow: answers what it was given, and keeps what it was asked."""

    catalog: Catalog
    view: AttemptView
    answer: Redirect | Ended | Refused = field(default_factory=lambda: Ended("3f0e8a7c5d1b4a69"))
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    again: Any = None

    async def start(
        self,
        person: Person,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        return_url: str | None = None,
    ) -> str:
        if not person.may_consent:
            raise Refused(Kind.FORBIDDEN)
        if not permission_set_ids or any(each not in self.catalog.sets for each in permission_set_ids):
            raise Refused(Kind.INVALID)
        if tenant_id is not None and len(tenant_id) != 36:
            raise Refused(Kind.MALFORMED)
        self.asked.append(("start", person, tuple(permission_set_ids), tenant_id, return_url))
        return f"{ENTRA}/{tenant_id or 'organizations'}/v2.0/adminconsent?state=s"

    async def callback(
        self,
        params: Sequence[tuple[str, str]],
        *,
        person: Person | None,
        session_hash: str | None,
        guest: str | None = None,
        again: Any = None,
        browser: object = None,
    ) -> Redirect | Ended:
        self.asked.append(("callback", tuple(params), person, session_hash))
        self.again = again
        if isinstance(self.answer, Refused):
            raise self.answer
        return self.answer

    prove = callback

    async def attempt(self, attempt_id: str, *, session_hash: str | None, guest: str | None = None) -> AttemptView:
        if attempt_id != self.view.id:
            raise Refused(Kind.NOT_FOUND)
        self.asked.append(("attempt", attempt_id, session_hash))
        return self.view

    async def open_link(self, token: str, person: Person) -> LinkView:
        if token != "link-token":
            raise Refused(Kind.UNKNOWN)
        first = self.catalog.sets[SETS[0]]
        return LinkView(
            attempt_id=self.view.id,
            account_id=person.account_id,
            account_name=person.account_name,
            app_id="mobile-security",
            permission_set_ids=(first.id,),
            set_titles=(first.title,),
            tenant_id=None,
            expires_at=datetime.now(UTC) + timedelta(minutes=10),
        )

    async def follow_link(self, token: str, person: Person) -> str:
        self.asked.append(("follow", token, person))
        return f"{ENTRA}/organizations/v2.0/adminconsent?state=s"


@dataclass
class FailedRuns:
    """Runs that failed, as a test sets them."""

    attempts: list[Attempt] = field(default_factory=list)

    async def failed(self, account_id: str, **_: object) -> list[Attempt]:
        return [one for one in self.attempts if one.account_id == account_id]

    async def clear(self, attempt_id: str, account_id: str, *, now: datetime) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class Granted:
    """The grants of the tenants that a test set."""

    tenants: list[Tenant]

    async def accepted_since(self, account_id: str, set_ids: Collection[str], *, since: datetime) -> list[Grant]:
        found = [grant for each in self.tenants if each.account_id == account_id for grant in each.grants]
        return [one for one in found if one.permission_set_id in set_ids and one.accepted_at > since]

    async def names(self, account_id: str, tenant_ids: Collection[str]) -> dict[str, str]:
        found = [each for each in self.tenants if each.account_id == account_id and each.tenant_id in tenant_ids]
        return {each.tenant_id: each.tenant_name for each in found if each.tenant_name is not None}


class NoTransfers:
    """Nobody has asked for a tenant."""

    async def asked_by(self, attempt_id: str) -> None:
        return None


@dataclass
class Hints:
    """Stands in for the change stream: ``tell`` wakes whoever watches an account."""

    watchers: list[tuple[str, asyncio.Queue[str | None]]] = field(default_factory=list)

    @asynccontextmanager
    async def watch(self, account_id: str) -> AsyncIterator[AsyncIterator[str]]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.watchers.append((account_id, queue))

        async def changes() -> AsyncIterator[str]:
            while (hint := await queue.get()) is not None:
                yield hint

        try:
            yield changes()
        finally:
            self.watchers.remove((account_id, queue))

    def tell(self, account_id: str, tenant_id: str) -> None:
        for watched, queue in self.watchers:
            if watched == account_id:
                queue.put_nowait(tenant_id)

    def stop(self) -> None:
        for _, queue in self.watchers:
            queue.put_nowait(None)


@dataclass
class Console:
    """The application, and what a test may set or look at."""

    app: FastAPI
    sessions: Sessions
    consent: ScriptedConsent
    hints: Hints
    failed: FailedRuns
    tenants: list[Tenant]
    client: httpx.AsyncClient


def console_app(database: Database, client: httpx.AsyncClient, *, public_url: str, issuer: str) -> Console:
    """The console's routes, composed as ``app.py`` does it."""
    catalog = packaged_catalog()
    settings = ConsoleSettings.model_validate(
        {"issuer": issuer, "client_secret": "console-demo-secret", "session_secret": "s" * 32}
    )
    consent, hints, tenants = ScriptedConsent(catalog, attempt_view(catalog)), Hints(), list[Tenant]()
    failed = FailedRuns()
    provider = Provider(settings, redirect_uri=f"{public_url}/auth/callback", client=client)

    async def entra_origin() -> str:
        return ENTRA

    pages = Pages(form_targets=FormTargets(provider.authorization_origin, entra_origin))
    sessions = Sessions(database, secret=settings.session_secret.get_secret_value())
    gate = Gate(sessions, provider, pages, public_url=public_url)

    async def tenants_of(account_id: str, *, limit: int = 200, after: str | None = None) -> Sequence[Tenant]:
        mine = sorted((each for each in tenants if each.account_id == account_id), key=lambda each: each.tenant_id)
        return [each for each in mine if each.tenant_id > (after or "")][:limit]

    app = FastAPI()
    web.install(app, checks={})
    scripted: Any = consent
    watched: Any = hints
    app.include_router(signin.router(gate, provider, pages, public_url=public_url))
    app.include_router(
        console.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            consent=scripted,
            tenants_of=tenants_of,
            changes=watched,
            failures=Failures(failed, Granted(tenants)),
            heartbeat_seconds=HEARTBEAT_SECONDS,
        )
    )
    app.include_router(
        callbacks.router(
            gate=gate, pages=pages, catalog=catalog, consent=scripted, tenants_of=tenants_of, transfers=NoTransfers()
        )
    )
    app.include_router(pages.router())
    return Console(app, sessions, consent, hints, failed, tenants, client)
