"""What is kept of a grant and what is said of it: all of it, and nothing that changed goes unsaid."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consent_gateway.grants.documents import grant_fields, grant_of
from consent_gateway.grants.events import event_of, same_to_readers
from consent_gateway.grants.grants import Entra, Grant, Health, Tenant
from shared.events import Actor, AdditionalSetting, GrantData, HeldApp, Permission, PlannedChange
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, HOME

T0 = datetime(2026, 11, 23, tzinfo=UTC)
GRAPH = "00000003-0000-0000-c000-000000000000"
SET = "read-directory-data"


def permission(value: str, kind: Any = "application") -> Permission:
    return Permission(resource_app_id=GRAPH, value=value, type=kind)


HEALTH = Health(
    next_at=T0 + timedelta(minutes=1),
    not_before=T0 + timedelta(minutes=2),
    last_at=T0 + timedelta(minutes=3),
    last_good_at=T0 + timedelta(minutes=4),
    full_at=T0 + timedelta(minutes=5),
    tries=1,
    failures=2,
    negatives=3,
    negatives_since=T0 + timedelta(minutes=6),
    error="timeout",
    absent=(FABRIKAM,),
)
# Nothing is as it is where nobody says anything, but for the health's two fields that a check only reads.
GRANT = Grant(
    account_id="northwind",
    tenant_id=CONTOSO,
    permission_set_id=SET,
    client_id=CLIENT_IDS[SET],
    service_principal_id=HOME,
    version=2,
    accepted=(permission("A"), permission("B")),
    entra=Entra.INCOMPLETE,
    blocked=True,
    asks_more=True,
    reason="removed",
    apps=("search", "mobile-security"),
    held_apps=(HeldApp(app_id="workbench", tenant_id=FABRIKAM, epoch=3),),
    app_epochs={"mobile-security": 2},
    permissions=(permission("A"),),
    missing=(permission("B"),),
    extra=(permission("C"),),
    unverified=(permission("User.Read", "delegated"),),
    accepted_at=T0,
    verify_until=T0 + timedelta(days=1),
    granted_at=T0 + timedelta(hours=1),
    granted_by="administrator",
    verified_at=T0 + timedelta(hours=2),
    attempt_id="attempt",
    available_version=3,
    additional=(permission("D"),),
    planned=(
        PlannedChange(version=4, effective_from=T0 + timedelta(days=30), adds=(permission("E"),), reason="because"),
    ),
    catalog_edition=5,
    settings=(AdditionalSetting(kind="licence", name="AAD_PREMIUM", functions=("search/find",)),),
    revision=6,
    health=HEALTH,
)
TENANT = Tenant(
    account_id="northwind",
    tenant_id=CONTOSO,
    tenant_name="Contoso Ltd",
    primary_domain="contoso.com",
    cloud="usgov",
    revision=6,
    updated_at=T0,
    people={},
)
# What is of the gateway alone, and what follows from the status.
UNSAID: dict[str, Any] = {
    "client_id": CLIENT_IDS["manage-accounts"],
    "service_principal_id": CONTOSO,
    "accepted": (),
    "asks_more": False,
    "accepted_at": T0 + timedelta(days=2),
    "verify_until": T0,
    "verified_at": T0,
    "catalog_edition": 9,
    "revision": 9,
    "health": Health(),
}
SAID: dict[str, Any] = {
    "version": 9,
    "entra": Entra.GONE,
    "blocked": False,
    "reason": None,
    "apps": ("search",),
    "held_apps": (),
    "app_epochs": {"mobile-security": 9},
    "permissions": (),
    "missing": (),
    "extra": (),
    "unverified": (),
    "granted_at": T0,
    "granted_by": "another",
    "attempt_id": "another",
    "available_version": 9,
    "additional": (),
    "planned": (),
    "settings": (),
}


def test_an_event_says_all_that_its_readers_are_told_of_a_grant() -> None:
    before = replace(GRANT, blocked=False, apps=("search", "workbench"))
    at = T0 + timedelta(days=3)
    actor = Actor(kind="user", id="operator-1")
    event = event_of(before, GRANT, tenant=TENANT, previous_revision=5, cause="operator", actor=actor, occurred_at=at)
    told: dict[str, Any] = {name: getattr(GRANT, name) for name in GrantData.model_fields if hasattr(GRANT, name)}
    told |= {name: getattr(TENANT, name) for name in ("tenant_name", "primary_domain", "cloud")}
    told |= {"status": "blocked", "previous_status": "partial", "usable": False, "previous_usable": True}
    told |= {"previous_apps": before.apps, "previous_revision": 5}
    told |= {"cause": "operator", "actor": actor, "occurred_at": at}
    assert {name: getattr(event, name) for name in GrantData.model_fields} == told
    assert told.keys() == GrantData.model_fields.keys()


def test_the_first_event_of_a_grant_says_that_there_was_nothing_before() -> None:
    actor = Actor(kind="user", id="operator-1")
    event = event_of(None, GRANT, tenant=TENANT, previous_revision=None, cause="consent", actor=actor, occurred_at=T0)
    assert (event.previous_status, event.previous_usable, event.previous_apps) == (None, False, ())


@pytest.mark.parametrize(("name", "value"), [*SAID.items(), *UNSAID.items()])
def test_a_change_is_said_where_readers_are_told_of_it(name: str, value: Any) -> None:
    assert getattr(GRANT, name) != value
    assert same_to_readers(GRANT, replace(GRANT, **{name: value})) is (name in UNSAID)


def test_what_a_change_may_be_is_all_in_the_table() -> None:
    ids = {"account_id", "tenant_id", "permission_set_id"}
    assert {one.name for one in fields(Grant)} == SAID.keys() | UNSAID.keys() | ids


def test_another_order_is_no_change() -> None:
    turned = replace(GRANT, apps=GRANT.apps[::-1])
    assert same_to_readers(GRANT, turned)


def test_a_grant_is_kept_as_it_is() -> None:
    for one in (GRANT, replace(GRANT, entra=Entra.VERIFYING, planned=(), settings=(), reason=None)):
        document: dict[str, Any] = {}
        for name, value in grant_fields(one).items():
            part, _, inner = name.partition(".")
            if inner:
                document.setdefault(part, {})[inner] = value
            else:
                document[name] = value
        assert grant_of(document) == one
        assert (document["status"], document["usable"]) == (str(one.status), one.usable)


def test_a_write_leaves_the_lease_and_what_a_person_said_of_a_removal_alone() -> None:
    said = replace(GRANT, health=replace(HEALTH, token=7, removal_said_at=T0))
    assert grant_fields(said) == grant_fields(GRANT)
    document = {**grant_fields(GRANT), "check": {"token": 7, "removal_said_at": T0}}
    assert grant_of(document).health == Health(token=7, removal_said_at=T0)
