"""The pages that show what the registry tells, and what is announced: with a small fleet, for looking at."""

from datetime import timedelta
from typing import Any

from consent_gateway.catalog.planned import Planned
from consent_gateway.consent.attempts import Browser
from consent_gateway.errors import Kind
from consent_gateway.web.console_fleet import PATH as FLEET
from consent_gateway.web.fleet import STATUSES, Filters, fleet_view
from consent_gateway.web.fleet_reader import (
    Account,
    AccountPage,
    Counts,
    FleetGrant,
    FleetHeld,
    FleetTenant,
    SetCounts,
)
from consent_gateway.web.history_reader import Entry, History
from consent_gateway.web.timeline import TYPES, Timeline
from shared.events import Actor
from support.console import CONTOSO, FABRIKAM, SETS
from support.gallery import CATALOG, NOW, Shown

STATES = ["granted", "update_available", "partial", "granted", "verifying", "blocked", "revoked"]
NAMES = ["Contoso Ltd", "Fabrikam Inc", None, "Contoso Suites", "Fabrikam Residences"]


def of_the_registry() -> dict[str, Shown]:
    """The pages by name."""
    return {**_fleet(), **_history(), **_planned()}


def _tenant(number: int, name: str | None) -> FleetTenant:
    grants = [
        FleetGrant(permission_set_id=set_id, status=STATES[(number + place) % 7], version=CATALOG.sets[set_id].version)
        for place, set_id in enumerate(SETS[: 5 - number % 3])
    ]
    if number == 1:
        held = [FleetHeld(app_id="mobile-security", tenant_id=CONTOSO)]
        grants[0] = grants[0].model_copy(update={"held_apps": held})
    return FleetTenant(
        account_id="northwind",
        tenant_id=[CONTOSO, FABRIKAM][number] if number < 2 else f"{number}a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22",
        tenant_name=name,
        primary_domain=f"{name.split()[0].lower()}{number}.com" if name else None,
        grants=grants,
    )


def _fleet() -> dict[str, Shown]:
    counts = Counts(
        tenants=10_482,
        statuses={"granted": 9_000},
        permission_sets=[
            SetCounts(
                permission_set_id=set_id,
                statuses={
                    "granted": 8_211 - place * 1_500,
                    "partial": 43 * place,
                    "update_available": 1_204,
                    "blocked": 7,
                },
                versions={1: 8_000, 2: 1_204},
                not_consented=1_022 * place,
            )
            for place, set_id in enumerate(SETS)
        ],
        counted_at=NOW - timedelta(minutes=2),
    )
    tenants = [_tenant(number, name) for number, name in enumerate(NAMES)]
    values: dict[str, Any] = {
        "view": fleet_view(CATALOG, Filters(), counts=counts, tenants=tenants, path=FLEET),
        "counts": counts,
        "available": True,
        "staff": False,
        "catalog": CATALOG,
        "statuses": STATUSES,
        "may_consent": True,
        "own": "northwind",
        "asked": None,
        "most": 1_000,
        "first_page": None,
        "next_page": f"{FLEET}?cursor=c",
        "export": f"{FLEET}.csv",
    }
    accounts = AccountPage(
        items=[
            Account(account_id="adatum", tenants=3, attention=0),
            Account(account_id="northwind", tenants=1_001, attention=212),
        ]
    )
    many = {"error": None, "wrong": (), "chosen": SETS[:1], "tenant_ids": f"{CONTOSO}\n{FABRIKAM}", "most": 500}
    return {
        "fleet": Shown("fleet.html", values, "operator"),
        "accounts": Shown(
            "accounts.html", {"staff": True, "found": accounts, "first_page": None, "next_page": None}, "staff"
        ),
        "invite-many": Shown("invite_many.html", {"catalog": CATALOG, "may_consent": True, **many}, "operator"),
    }


def _history() -> dict[str, Shown]:
    what: list[dict[str, Any]] = [
        {"type": "PermissionGranted", "status": "granted", "previous_status": "verifying", "version": 1},
        {"type": "PermissionChanged", "status": "verifying", "version": 1, "channel": "invitation"},
        {
            "type": "ConsentFailed",
            "reason": "not_administrator",
            "error_code": "AADSTS90094",
            "attempt_id": "3f0e8a7c5d1b",
        },
        {
            "type": "PermissionRevoked",
            "status": "revoked",
            "previous_status": "partial",
            "reason": "removed",
            "version": 1,
        },
        {"type": "PermissionChanged", "status": "partial", "previous_status": "granted", "version": 1},
        {"type": "PermissionBlocked", "status": "blocked", "previous_status": "granted", "version": 1},
        {"type": "TenantUpdated"},
    ]
    entries = [
        Entry(
            id=str(number),
            account_id="northwind",
            tenant_id=None if one["type"] == "ConsentFailed" else [CONTOSO, FABRIKAM][number % 2],
            tenant_name=None if one["type"] == "ConsentFailed" else ["Contoso Ltd", "Fabrikam Inc"][number % 2],
            permission_set_id=None if one["type"] == "TenantUpdated" else SETS[number % 3],
            actor=Actor(kind="user" if number % 2 else "system", id="s"),
            occurred_at=NOW - timedelta(hours=number * number, minutes=3),
            **one,
        )
        for number, one in enumerate(what)
    ]
    values: dict[str, Any] = {
        "history": History(entries=entries, next_cursor="c"),
        "timeline": Timeline(),
        "types": TYPES,
        "failures": frozenset(Kind),
        "staff": False,
        "catalog": CATALOG,
        "from_where": {"2": Browser(address="203.0.113.7", family="Firefox")},
        "who": {str(number): "Northwind operator" if number % 2 else None for number in range(len(what))},
        "titles": {one.id: one.title for one in CATALOG.sets.values()},
        "apps": {one.id: one.name for one in CATALOG.apps.values()},
        "all_entries": "/",
        "newest": None,
        "older": "/?cursor=c",
        "as_csv": "/history.csv",
        "as_lines": "/history.jsonl",
    }
    mine = History(entries=[one for one in entries if one.tenant_id == CONTOSO])
    of_tenant = {"history": mine, "timeline": Timeline(tenant_id=CONTOSO), "older": None}
    return {
        "history": Shown("history.html", values, "operator"),
        "history-tenant": Shown("history.html", values | of_tenant, "operator"),
    }


def _planned() -> dict[str, Shown]:
    wanted = CATALOG.sets[SETS[0]]
    plan = Planned(
        permission_set=wanted,
        version=2,
        effective_from=NOW + timedelta(days=40),
        reason="Groups of groups are shown as one, which needs their members.",
        adds=wanted.permissions[:2],
        removes=wanted.required[2:3],
    )
    values = {"plans": [(plan, 412)], "most": 1_000, "path": "/integrations/microsoft-entra-id/planned"}
    return {"planned": Shown("planned.html", values, "operator")}
