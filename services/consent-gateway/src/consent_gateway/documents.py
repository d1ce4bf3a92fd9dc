"""How values lie in MongoDB. Field names are those of the events; ids are the uniqueness rules."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from consent_gateway.attempts import Attempt, Leg, Phase
from consent_gateway.errors import Kind
from consent_gateway.grants import Entra, Grant, Health, Tenant
from shared.events import HeldApp, Permission
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
_HEALTH = tuple(Health.__dataclass_fields__)


def grant_fields(grant: Grant) -> Document:
    """The ``$set`` of a grant. The check's lease isn't part of it: its holder may still be at work."""
    fields: Document = {name: getattr(grant, name) for name in _PLAIN}
    fields |= {name: [p.model_dump() for p in getattr(grant, name)] for name in _PERMISSIONS}
    fields |= {"entra": str(grant.entra), "status": str(grant.status), "usable": grant.usable}
    fields |= {"apps": list(grant.apps), "held_apps": [held.model_dump() for held in grant.held_apps]}
    return fields | health_fields(grant.health)


def health_fields(health: Health) -> Document:
    """The ``$set`` of a grant's health."""
    return {f"check.{name}": getattr(health, name) for name in _HEALTH}


def grant_of(document: Document) -> Grant:
    """The grant of its document."""
    check: Document = document.get("check", {})
    fields: dict[str, Any] = {name: document[name] for name in _PLAIN}
    fields |= {name: tuple(Permission(**p) for p in document[name]) for name in _PERMISSIONS}
    return Grant(
        **fields,
        entra=Entra(document["entra"]),
        apps=tuple(document["apps"]),
        held_apps=tuple(HeldApp(**held) for held in document["held_apps"]),
        health=Health(**{name: check[name] for name in _HEALTH if name in check}),
    )


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
        grants=tuple(grants),
        people=dict(people or {}),
    )


def attempt_document(attempt: Attempt) -> Document:
    """A new attempt's document; ``states`` remembers every state that was ever its own."""
    document = asdict(attempt)
    document["_id"] = document.pop("id")
    document["phase"] = str(attempt.phase)
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
        return_url=document.get("return_url"),
        created_at=document["created_at"],
        expires_at=document["expires_at"],
    )
