"""The console's page of what happened: read from the registry, with the names that only the gateway knows."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Request, Response

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Browser
from consent_gateway.errors import Kind
from consent_gateway.people import administrator_id, user_id
from consent_gateway.web.console_fleet import exported, is_staff
from consent_gateway.web.fleet import cursor_in
from consent_gateway.web.fleet_reader import FleetReader
from consent_gateway.web.guard import SCREEN, Gate, person_of
from consent_gateway.web.history_reader import Entry, HistoryReader
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session
from consent_gateway.web.timeline import TYPES, Timeline

PATH = f"{SCREEN}/history"


class Names(Protocol):
    """Names of people."""

    async def names(self, person_ids: Iterable[str]) -> dict[str, str]:
        """The names that are known, by id."""
        raise NotImplementedError


class Origins(Protocol):
    """Where runs came from."""

    async def latest(self, attempts: Iterable[tuple[str, str]]) -> dict[str, Browser]:
        """The browser of a run's last step, by attempt id; asked are (account id, attempt id)."""
        raise NotImplementedError


def router(
    *,
    gate: Gate,
    pages: Pages,
    catalog: Catalog,
    entries: HistoryReader,
    reader: FleetReader,
    people: Names,
    origins: Origins,
) -> APIRouter:
    """The page, and the same as a file."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type

    @routes.get(PATH)
    async def history(request: Request, session: SignedIn) -> Response:
        account_id = person_of(session).account_id
        timeline = Timeline.of(request.query_params, catalog, staff=is_staff(session))
        cursor = cursor_in(request.query_params)
        found = await entries.history(
            tenant_id=timeline.tenant_id,
            access_token=session.identity.access_token,
            cursor=cursor,
            filters=timeline.asked,
        )
        ids = {entry.id: _person(entry, entry.account_id or account_id) for entry in found.entries}
        names = await people.names([one for one in ids.values() if one is not None])
        runs = {
            entry.id: (entry.account_id or account_id, entry.attempt_id)
            for entry in found.entries
            if entry.attempt_id is not None and _ends_a_run(entry)
        }
        browsers = await origins.latest(runs.values())
        values: Mapping[str, object] = {
            "history": found,
            "timeline": timeline,
            "types": TYPES,
            "failures": frozenset(Kind),
            "staff": is_staff(session),
            "catalog": catalog,
            "who": {entry_id: names.get(person or "") for entry_id, person in ids.items()},
            "from_where": {entry_id: browsers.get(attempt_id) for entry_id, (_, attempt_id) in runs.items()},
            "titles": {one.id: one.title for one in catalog.sets.values()},
            "apps": {one.id: one.name for one in catalog.apps.values()},
            "all_entries": Timeline(tenant_id=timeline.tenant_id, account_id=timeline.account_id).address(PATH),
            "newest": timeline.address(PATH) if cursor else None,
            "older": timeline.address(PATH, cursor=found.next_cursor) if found.next_cursor else None,
            "as_csv": timeline.address(f"{PATH}.csv"),
            "as_lines": timeline.address(f"{PATH}.jsonl"),
        }
        return await pages.render("history.html", values, session=session)

    @routes.get(f"{PATH}.csv")
    async def as_csv(request: Request, session: SignedIn) -> Response:
        return await export(request, session, "history.csv")

    @routes.get(f"{PATH}.jsonl")
    async def as_lines(request: Request, session: SignedIn) -> Response:
        return await export(request, session, "history.jsonl")

    async def export(request: Request, session: Session, name: str) -> Response:
        timeline = Timeline.of(request.query_params, catalog, staff=is_staff(session))
        params = timeline.asked | ({"tenant_id": timeline.tenant_id} if timeline.tenant_id else {})
        return await exported(pages, reader, session, f"/v1/{name}", params, name=name)

    return routes


def _ends_a_run(entry: Entry) -> bool:
    """Whether it is what a run led to: later changes of a grant name its run too, and were not made by it."""
    return entry.type == "ConsentFailed" or entry.cause in {"consent", "verification"}


def _person(entry: Entry, account_id: str) -> str | None:
    """The key of whoever did it, where it was a person."""
    if entry.actor is None:
        return None
    if entry.actor.kind == "administrator" and entry.tenant_id is not None:
        return administrator_id(entry.tenant_id, entry.actor.id)
    return user_id(account_id, entry.actor.id) if entry.actor.kind == "user" else None
