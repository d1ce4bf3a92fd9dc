"""``registrations check``: asks the home tenant about every client registration, and prints what is wrong with it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from consent_gateway.catalog.file import load_catalog
from consent_gateway.catalog.model import MICROSOFT_GRAPH, Catalog
from consent_gateway.entra.adapters import Entra
from consent_gateway.entra.answers import EntraFailed
from consent_gateway.entra.credential_expiry import with_home
from consent_gateway.entra.graph_reads import Later
from consent_gateway.entra.registrations_check import Line, Names, Wanted, lines
from consent_gateway.settings import Settings

REDIRECT_PATHS = ("/consent/callback", "/consent/proof")


async def check(settings: Settings) -> list[Line]:
    """Everything about every registration of the catalogue. Nothing is changed, and no database is needed.

    Raises:
        CatalogError, CredentialError: a file that a setting names can't be used; the message is one line.
    """
    catalog = load_catalog(settings.catalog.path, settings.catalog.client_ids)
    entra = Entra.of(settings.entra, catalog)
    async with entra.open():
        asker = _Asker(entra, settings.entra.home_tenant_id, catalog)
        return [line for wanted in _wanted(settings, catalog) for line in await asker.lines_of(wanted)]


def _wanted(settings: Settings, catalog: Catalog) -> list[Wanted]:
    by_client: dict[str, Wanted] = {}
    for one in catalog.sets.values():
        before = by_client.get(one.client_id)
        permissions = {p.key: p for p in (*(before.permissions if before else ()), *one.permissions)}
        by_client[one.client_id] = Wanted(
            registration=before.registration if before else one.registration,
            client_id=one.client_id,
            redirect_uris=tuple(f"{settings.public_url}{path}" for path in REDIRECT_PATHS),
            permissions=tuple(permissions.values()),
        )
    return list(by_client.values())


class _Asker:
    """Asks the home tenant; names of permissions are asked for once, by whichever registration may read them."""

    def __init__(self, entra: Entra, home_tenant_id: str, catalog: Catalog) -> None:
        self._entra = entra
        self._home = home_tenant_id
        self._scopes = {r.app_id: r.scope for one in catalog.sets.values() for r in one.resources}
        self._clients = tuple(dict.fromkeys(one.client_id for one in catalog.sets.values()))
        self._names: dict[str, dict[str, str] | None] = {}

    async def lines_of(self, wanted: Wanted) -> list[Line]:
        """What is to be said of a registration; where it can't be asked, that is the one fault."""
        try:
            token = await self._token(wanted.client_id)
            application = await self._entra.registrations.application(token, wanted.client_id)
        except EntraFailed as failed:
            return [_fault(wanted, f"our own tenant gives it no token: {failed.answer.name or failed.answer.klass}")]
        except Later:
            return [_fault(wanted, "Graph did not answer; try again")]
        if application is None:
            return [_fault(wanted, "the home tenant does not show it: ENTRA__HOME_TENANT_ID is perhaps another one's")]
        held = with_home(self._entra.credentials.held(wanted.client_id), application)
        apis = {permission.resource.app_id for permission in wanted.permissions}
        apis |= {str(entry.get("resourceAppId")).lower() for entry in application.get("requiredResourceAccess") or []}
        names: Names = {app_id: await self._names_of(app_id) for app_id in sorted(apis)}
        return lines(wanted, application, names, held, now=datetime.now(UTC))

    async def _names_of(self, resource_app_id: str) -> dict[str, str] | None:
        if resource_app_id not in self._names:
            self._names[resource_app_id] = await self._read_names(resource_app_id)
        return self._names[resource_app_id]

    async def _read_names(self, resource_app_id: str) -> dict[str, str] | None:
        for client_id in self._clients:
            try:
                token = await self._token(client_id)
                found = await self._entra.registrations.permission_names(token, resource_app_id)
            except (EntraFailed, Later):
                continue
            if found is not None:
                return dict(found)
        return None

    async def _token(self, client_id: str) -> str:
        scope = self._scopes.get(MICROSOFT_GRAPH, "https://graph.microsoft.com/.default")
        return await self._entra.app_tokens.app_token(tenant_id=self._home, client_id=client_id, scope=scope)


def _fault(wanted: Wanted, text: str) -> Line:
    return Line(registration=wanted.registration, client_id=wanted.client_id, text=text)


def shown(found: Sequence[Line], *, as_json: bool) -> str:
    """The lines as they are printed."""
    if as_json:
        return json.dumps([asdict(line) for line in found], indent=2) + "\n"
    said = [str(line) for line in found]
    return "\n".join(said or ["all client registrations are in order"]) + "\n"


def exit_code(found: Sequence[Line]) -> int:
    """0: in order; 1: a fault."""
    return int(any(line.fault for line in found))
