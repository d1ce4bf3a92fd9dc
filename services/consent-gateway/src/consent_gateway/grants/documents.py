"""How values lie in MongoDB. Field names are those of the events; ids are the uniqueness rules."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from consent_gateway.consent.attempts import Attempt, Browser, Channel, Leg, Phase, Proven
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Entra, Facts, Grant, Health, Tenant
from shared.events import AdditionalSetting, HeldApp, Permission, PlannedChange
from shared.mongo import Document


def grant_id(account_id: str, tenant_id: str, permission_set_id: str) -> str:
    """One grant for each (account, tenant, permission set)."""
    return f"{account_id}:{tenant_id}:{permission_set_id}"


def tenant_doc_id(account_id: str, tenant_id: str) -> str:
    """One revision counter for each (account, tenant)."""
    return f"{account_id}:{tenant_id}"


def slot_id(account_id: str, app_id: str) -> str:
    """One tenant for each (account, limited app)."""
    return f"{account_id}:{app_id}"


_PERMISSIONS = ("accepted", "permissions", "missing", "extra", "unverified")
_PLAIN = (
    "account_id",
    "tenant_id",
    "permission_set_id",
    "version",
    "blocked",
    "asks_more",
    "reason",
    "app_epochs",
    "accepted_at",
    "verify_until",
    "granted_at",
    "granted_by",
    "verified_at",
    "attempt_id",
    "revision",
)
_FROM_CATALOG = ("available_version", "catalog_edition")
_HEALTH = tuple(Health.__dataclass_fields__)
# A claim alone moves the token on, and a person alone says that something was removed: not whoever checks meanwhile.
_HEALTH_WRITTEN = tuple(name for name in _HEALTH if name not in {"token", "removal_said_at"})


def grant_fields(grant: Grant) -> Document:
    """The ``$set`` of a grant. The check's lease isn't part of it: its holder may still be at work."""
    fields: Document = {name: getattr(grant, name) for name in (*_PLAIN, *_FROM_CATALOG)}
    fields |= {name: [p.model_dump() for p in getattr(grant, name)] for name in _PERMISSIONS}
    fields |= {"client_id": grant.client_id, "service_principal_id": grant.service_principal_id}
    fields |= {"entra": str(grant.entra), "status": str(grant.status), "usable": grant.usable}
    fields |= {"apps": list(grant.apps), "held_apps": [held.model_dump() for held in grant.held_apps]}
    for name in ("additional", "planned", "settings"):
        fields[name] = [one.model_dump() for one in getattr(grant, name)]
    return fields | health_fields(grant.health)


def health_fields(health: Health) -> Document:
    """The ``$set`` of a grant's health."""
    return {f"check.{name}": getattr(health, name) for name in _HEALTH_WRITTEN} | {"check.absent": list(health.absent)}


def grant_of(document: Document) -> Grant:
    """The grant of its document."""
    check: Document = document.get("check", {})
    fields: dict[str, Any] = {name: document[name] for name in _PLAIN}
    fields |= {name: tuple(Permission(**p) for p in document[name]) for name in _PERMISSIONS}
    # Grants of before the first catalogue edition have none of these.
    fields |= {name: document[name] for name in _FROM_CATALOG if name in document}
    return Grant(
        **fields,
        client_id=document.get("client_id"),
        service_principal_id=document.get("service_principal_id"),
        entra=Entra(document["entra"]),
        apps=tuple(document["apps"]),
        held_apps=tuple(HeldApp(**held) for held in document["held_apps"]),
        additional=tuple(Permission(**one) for one in document.get("additional", ())),
        planned=tuple(PlannedChange(**one) for one in document.get("planned", ())),
        settings=tuple(AdditionalSetting(**one) for one in document.get("settings", ())),
        health=_health_of(check),
    )


def _health_of(check: Document) -> Health:
    fields: dict[str, Any] = {name: check[name] for name in _HEALTH if name in check}
    return Health(**(fields | {"absent": tuple(check.get("absent", ()))}))


def tenant_of(document: Document, grants: Sequence[Grant] = (), people: Mapping[str, str] | None = None) -> Tenant:
    """The tenant of its document."""
    return Tenant(
        account_id=document["account_id"],
        tenant_id=document["tenant_id"],
        tenant_name=document["tenant_name"],
        primary_domain=document["primary_domain"],
        cloud=document["cloud"],
        revision=document["revision"],
        updated_at=document["updated_at"],
        connected=document["connected"],
        removed_at=document.get("removed_at"),
        grants=tuple(grants),
        people=dict(people or {}),
        facts=facts_of(document.get("facts")),
    )


def facts_document(facts: Facts) -> Document:
    """What was read of a tenant's settings. Client ids are values: a field's name is no place for data."""
    return {
        "directory_roles": [
            {"client_id": client_id, "template_ids": sorted(roles)}
            for client_id, roles in sorted(facts.directory_roles.items())
        ],
        "service_plans": sorted(facts.service_plans) if facts.service_plans is not None else None,
        "read_at": facts.read_at,
    }


def facts_of(document: Document | None) -> Facts:
    """What was read; nothing is known where nothing was."""
    if document is None:
        return Facts()
    plans = document["service_plans"]
    return Facts(
        directory_roles={one["client_id"]: frozenset(one["template_ids"]) for one in document["directory_roles"]},
        service_plans=frozenset(plans) if plans is not None else None,
        read_at=document["read_at"],
    )


def attempt_document(attempt: Attempt) -> Document:
    """A new attempt's document; ``states`` remembers every state that was ever its own."""
    document = asdict(attempt)
    document["_id"] = document.pop("id")
    document["phase"] = str(attempt.phase)
    document["channel"] = str(attempt.channel)
    document["leg"] = leg_document(attempt.leg) if attempt.leg is not None else None
    document["permission_set_ids"] = list(attempt.permission_set_ids)
    document["remaining"] = list(attempt.remaining)
    document["states"] = [attempt.leg.state_hash] if attempt.leg is not None else []
    return document


def leg_document(leg: Leg) -> Document:
    """A leg's document."""
    return asdict(leg) | {"scope": list(leg.scope)}


def attempt_of(document: Document) -> Attempt:
    """The attempt of its document."""
    leg: Document | None = document.get("leg")
    proven: Document | None = document.get("proven")
    failure = document.get("failure")
    return Attempt(
        id=document["_id"],
        account_id=document["account_id"],
        account_name=document.get("account_name"),
        subject=document["subject"],
        app_id=document.get("app_id"),
        permission_set_ids=tuple(document["permission_set_ids"]),
        remaining=tuple(document["remaining"]),
        tenant_id=document.get("tenant_id"),
        session_hash=document.get("session_hash"),
        phase=Phase(document["phase"]),
        leg=Leg(**(leg | {"scope": tuple(leg["scope"])})) if leg else None,
        run=document.get("run"),
        failure=Kind(failure) if failure else None,
        stage=document.get("stage"),
        error_code=document.get("error_code"),
        detail=document.get("detail"),
        return_url=document.get("return_url"),
        channel=Channel(document.get("channel", Channel.CONSOLE)),
        follower=document.get("follower"),
        invitation_id=document.get("invitation_id"),
        needs_confirmation=document.get("needs_confirmation", False),
        proven=Proven(**proven) if proven else None,
        started_from=_browser_of(document.get("started_from")),
        last_from=_browser_of(document.get("last_from")),
        created_at=document["created_at"],
        expires_at=document["expires_at"],
    )


def _browser_of(document: Document | None) -> Browser | None:
    return Browser(**document) if document is not None else None
