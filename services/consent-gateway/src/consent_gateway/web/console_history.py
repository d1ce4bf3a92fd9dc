"""The console's page of what happened: read from the registry, with the names that only the gateway knows."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Protocol
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response

from consent_gateway.catalog.model import Catalog
from consent_gateway.people import administrator_id, user_id
from consent_gateway.web.guard import SCREEN, Gate, person_of
from consent_gateway.web.pages import Pages
from consent_gateway.web.registry import Entry, Registry
from consent_gateway.web.sessions import Session
from shared.events import canonical_tenant_id

PATH = f"{SCREEN}/history"
LONGEST_CURSOR = 1_000


class Names(Protocol):
    """Names of people."""

    async def names(self, person_ids: Iterable[str]) -> dict[str, str]:
        """The names that are known, by id."""
        raise NotImplementedError


def router(*, gate: Gate, pages: Pages, catalog: Catalog, registry: Registry, people: Names) -> APIRouter:
    """The page's one route."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type

    @routes.get(PATH)
    async def history(request: Request, session: SignedIn) -> Response:
        account_id = person_of(session).account_id
        tenant_id = canonical_tenant_id(request.query_params.get("tenant", ""))
        cursor = request.query_params.get("cursor", "")[:LONGEST_CURSOR] or None
        found = await registry.history(tenant_id=tenant_id, access_token=session.identity.access_token, cursor=cursor)
        ids = {entry.id: _person(entry, account_id) for entry in found.entries}
        names = await people.names([one for one in ids.values() if one is not None])
        values: Mapping[str, object] = {
            "history": found,
            "tenant_id": tenant_id,
            "who": {entry_id: names.get(person or "") for entry_id, person in ids.items()},
            "titles": {one.id: one.title for one in catalog.sets.values()},
            "apps": {one.id: one.name for one in catalog.apps.values()},
            "older": _older(tenant_id, found.next_cursor),
        }
        return await pages.render("history.html", values, session=session)

    return routes


def _person(entry: Entry, account_id: str) -> str | None:
    """The key of whoever did it, where it was a person."""
    if entry.actor is None:
        return None
    if entry.actor.kind == "administrator" and entry.tenant_id is not None:
        return administrator_id(entry.tenant_id, entry.actor.id)
    return user_id(account_id, entry.actor.id) if entry.actor.kind == "user" else None


def _older(tenant_id: str | None, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    return f"{PATH}?{urlencode({**({'tenant': tenant_id} if tenant_id else {}), 'cursor': cursor})}"
