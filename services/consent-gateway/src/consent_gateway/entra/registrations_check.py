"""What is wrong with a client registration of ours, as the home tenant shows it. Pure: JSON in, lines out."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consent_gateway.catalog.model import MICROSOFT_GRAPH, CatalogPermission
from consent_gateway.entra.credential_expiry import moment
from consent_gateway.entra.credentials import Held

# Scopes of OpenID Connect: asked for at sign-in, no permission of any set.
_SIGN_IN = frozenset({"openid", "profile", "email", "offline_access"})
_TYPES = {"application": "Role", "delegated": "Scope"}
SOON = timedelta(days=60)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the gateway needs of a registration: the union of its sets, and where Entra sends browsers back to."""

    registration: str
    client_id: str
    redirect_uris: tuple[str, ...]
    permissions: tuple[CatalogPermission, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """Something about a registration. A note is worth knowing and stands in nobody's way."""

    registration: str
    client_id: str
    text: str
    fault: bool = True

    def __str__(self) -> str:
        """As it is printed."""
        return f"{'' if self.fault else 'note: '}{self.registration} ({self.client_id}): {self.text}"


Names = Mapping[str, Mapping[str, str] | None]


def lines(
    wanted: Wanted, application: Mapping[str, Any], names: Names, held: Sequence[Held], *, now: datetime
) -> list[Line]:
    """Everything about the registration; ``names`` are the permissions of each API by id, None where unreadable."""
    faults = [*_sign_in(wanted, application), *_credentials(application, held, now)]
    notes = [*_soon(held, now)]
    for about in _resources(wanted, application):
        known = names.get(about.app_id)
        if known is not None:
            faults += _by_name(about, known)
        else:
            faults += _by_number(about)
            notes.append(
                f"the permissions on {about.name} were compared by number only: "
                "reading their names needs Application.Read.All in the home tenant"
            )
    if _declares_no_sign_in(application, names.get(MICROSOFT_GRAPH)):
        notes.append("openid and profile aren't among its permissions: the sign-in after an Accept may ask once more")
    said = [(text, True) for text in faults] + [(text, False) for text in notes]
    return [
        Line(registration=wanted.registration, client_id=wanted.client_id, text=text, fault=fault)
        for text, fault in said
    ]


def _sign_in(wanted: Wanted, application: Mapping[str, Any]) -> Iterator[str]:
    registered = (application.get("web") or {}).get("redirectUris") or []
    for uri in wanted.redirect_uris:
        if uri not in registered:
            yield f"the redirect URI {uri} is missing (Authentication > Web)"
    audience = application.get("signInAudience")
    if audience != "AzureADMultipleOrgs":
        yield f"signInAudience is {audience}: other tenants can't consent; it must be AzureADMultipleOrgs"
    claims = {claim.strip() for claim in str(application.get("groupMembershipClaims") or "").split(",")}
    if not claims & {"DirectoryRole", "All"}:
        yield "groupMembershipClaims is without DirectoryRole: ID tokens carry no wids, so no role is ever proven"


def _credentials(application: Mapping[str, Any], held: Sequence[Held], now: datetime) -> Iterator[str]:
    for one in held:
        entry = _registered(application, one)
        if one.kind == "assertion":
            continue  # federated credentials are not part of what an app may read of itself
        if entry is None:
            yield f"{one.name} is not among its {'certificates' if one.kind == 'certificate' else 'secrets'}"
            continue
        ends = moment(entry.get("endDateTime")) or one.expires_at
        if ends is not None and ends <= now:
            yield f"{one.name} ended on {ends.date().isoformat()}"


def _soon(held: Sequence[Held], now: datetime) -> Iterator[str]:
    for one in held:
        if one.kind != "assertion" and one.expires_at is not None and now < one.expires_at <= now + SOON:
            yield f"{one.name} ends on {one.expires_at.date().isoformat()}"


def _registered(application: Mapping[str, Any], held: Held) -> Mapping[str, Any] | None:
    kind = "keyCredentials" if held.kind == "certificate" else "passwordCredentials"
    entries = [entry for entry in application.get(kind) or [] if isinstance(entry, dict)]
    if held.kind == "certificate":
        return next((e for e in entries if _thumbprint(e.get("customKeyIdentifier")) == held.thumbprint), None)
    alike = [entry for entry in entries if entry.get("hint") == held.hint]
    return max(alike, key=lambda entry: str(entry.get("endDateTime")), default=None)


def _thumbprint(text: object) -> str | None:
    """A SHA-1 thumbprint, which Graph writes in base64 and tools in hex."""
    if not isinstance(text, str):
        return None
    if len(text) == 40:
        return text.lower()
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class _Resource:
    """What a registration asks of an API, by (id, type), and what the catalogue asks of it."""

    app_id: str
    name: str
    asked: frozenset[tuple[str, str]]
    wanted: tuple[CatalogPermission, ...]


def _resources(wanted: Wanted, application: Mapping[str, Any]) -> Iterable[_Resource]:
    asked: dict[str, set[tuple[str, str]]] = {}
    for entry in application.get("requiredResourceAccess") or []:
        access = {(str(one.get("id")), str(one.get("type"))) for one in entry.get("resourceAccess") or []}
        asked.setdefault(str(entry.get("resourceAppId")).lower(), set()).update(access)
    names = {one.resource.app_id: one.resource.name for one in wanted.permissions}
    for app_id in dict.fromkeys((*names, *asked)):
        yield _Resource(
            app_id=app_id,
            name=names.get(app_id, f"the API {app_id}"),
            asked=frozenset(asked.get(app_id, ())),
            wanted=tuple(one for one in wanted.permissions if one.resource.app_id == app_id),
        )


def _by_name(about: _Resource, names: Mapping[str, str]) -> Iterator[str]:
    asked = {(names.get(identifier, identifier), kind) for identifier, kind in about.asked}
    needed = {(one.value, _TYPES[one.type]) for one in about.wanted}
    words = {kind: word for word, kind in _TYPES.items()}
    for value, kind in sorted(needed - asked):
        yield f"the {words[kind]} permission {value} of {about.name} is missing: no Accept can give it"
    for value, kind in sorted(asked - needed):
        if value not in _SIGN_IN:
            yield f"it asks for {value} of {about.name} ({words.get(kind, kind)}), which no set of the catalogue does"


def _by_number(about: _Resource) -> Iterator[str]:
    for word, kind in _TYPES.items():
        asked = sum(one[1] == kind for one in about.asked)
        needed = sum(one.type == word for one in about.wanted)
        if asked < needed or (asked > needed and word == "application"):
            yield f"it asks for {asked} {word} permissions of {about.name}, the catalogue for {needed}"


def _declares_no_sign_in(application: Mapping[str, Any], graph: Mapping[str, str] | None) -> bool:
    if graph is None:
        return False
    asked = {
        graph.get(str(one.get("id")))
        for entry in application.get("requiredResourceAccess") or []
        for one in entry.get("resourceAccess") or []
    }
    return not {"openid", "profile"} <= asked
