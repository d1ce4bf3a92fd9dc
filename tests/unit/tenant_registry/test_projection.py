"""What an event means, and that changes of one tenant may come in any order and any number."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.events import (
    ConsentFailed,
    Event,
    EventData,
    GrantData,
    GrantState,
    PermissionBlocked,
    PermissionChanged,
    PermissionGranted,
    PermissionRevoked,
    PermissionStatusChanged,
    TenantRemoved,
    TenantState,
    TenantUpdated,
    decode,
    encode,
)
from support.consent_events import (
    ACCOUNT,
    ADMINISTRATOR,
    CONTOSO,
    FABRIKAM,
    at,
    event,
    grant_event,
    tenant_event,
    whole_grant_event,
)
from tenant_registry import merging
from tenant_registry.access import Scope
from tenant_registry.projection import TenantChange, Unexpected, facets_of, fold, project, state_of, words_of
from tenant_registry.queries import TenantQuery, tenant_filter


@pytest.mark.parametrize("kind", [PermissionGranted, PermissionChanged, PermissionBlocked, PermissionRevoked])
def test_a_grants_event_becomes_a_status_event_with_the_same_data(kind: type[GrantData]) -> None:
    cause = event(whole_grant_event(kind))
    status = project(cause).status
    assert isinstance(status.data, PermissionStatusChanged)
    assert status.data.model_dump() == cause.data.model_dump() | {"change": kind.type_name}
    assert status.data.key() == cause.data.key()
    assert (status.source, status.time) == ("/tenant-registry", cause.time)
    assert decode(encode(status)[2], encode(status)[1]) == status


def test_all_that_an_event_says_of_a_grant_is_in_the_tenants_document_and_in_its_history() -> None:
    cause = event(whole_grant_event())
    said = cause.data.model_dump()
    left_out = {name for name, field in type(cause.data).model_fields.items() if said[name] == field.get_default()}
    assert not left_out, "the event is to say something of everything"
    projected = project(cause)
    assert projected.history is not None
    assert said.items() <= projected.history.items()
    assert projected.change is not None
    document = {**asdict(projected.change), "_id": projected.change.key}
    state = state_of(document)
    assert state is not None
    (grant,) = state.grants
    assert grant.model_dump() == {name: said[name] for name in GrantState.model_fields}
    told = {"tenant_name", "primary_domain", "cloud", "revision", "account_id", "tenant_id"}
    assert state.model_dump(include=told) == {name: said[name] for name in told}
    assert state.updated_at == said["occurred_at"]


def test_what_follows_from_an_event_follows_from_nothing_else() -> None:
    cause, same_data = event(grant_event()), event(grant_event())
    assert project(cause) == project(cause)
    assert project(cause).status.id != project(same_data).status.id


def test_a_snapshot_keeps_its_cause_and_leaves_no_history() -> None:
    projected = project(event(grant_event(cause="snapshot")))
    assert isinstance(projected.status.data, PermissionStatusChanged)
    assert projected.status.data.cause == "snapshot"
    assert projected.history is None
    assert projected.change is not None


def test_a_failure_without_a_tenant_is_history_only() -> None:
    failed = ConsentFailed(
        account_id=ACCOUNT,
        permission_set_ids=("read-directory-data",),
        attempt_id="a-1",
        stage="callback",
        reason="declined",
        error_code="AADSTS65004",
        actor=ADMINISTRATOR,
        occurred_at=at(1),
    )
    cause = event(failed)
    projected = project(cause)
    assert projected.change is None
    assert projected.status.data == failed
    assert projected.history == {"_id": cause.id, "type": "ConsentFailed", "revision": 0, **failed.model_dump()}


@pytest.mark.parametrize(
    "data",
    [
        grant_event(PermissionStatusChanged, change="PermissionGranted"),
        TenantState(account_id=ACCOUNT, tenant_id=CONTOSO, revision=1, updated_at=at(1)),
    ],
)
def test_what_the_registry_writes_itself_is_not_read_back(data: EventData) -> None:
    with pytest.raises(Unexpected):
        project(event(data))


@pytest.mark.parametrize("kind", ["set-a nameless", "set-a", "renamed"])
def test_an_event_from_before_the_name_was_known_takes_no_name_away(kind: str) -> None:
    (change,) = fold(changes_of([event(_make("set-b", 1)), event(_make(kind, 2))]))
    assert change.profile is not None
    assert change.profile.tenant_name == ("Contoso 1" if "nameless" in kind else "Contoso 2")
    assert change.revision == 2


def test_a_document_without_grants_is_a_tenant_and_a_tombstone_is_none() -> None:
    document = {"account_id": ACCOUNT, "tenant_id": CONTOSO, "revision": 1, "updated_at": at(1), "cloud": "global"}
    state = state_of(document)
    assert state is not None
    assert state.grants == ()
    assert state_of({**document, "removed": True}) is None


def test_facets_name_set_status_and_apps_and_usable_ones_only_while_usable() -> None:
    grant = grant_event(apps=("search",)).model_dump()
    always = {
        "set:read-directory-data",
        "set:read-directory-data:granted",
        "set:read-directory-data:v1",
        "status:granted",
        "app:search",
        "app:search:granted",
    }
    assert set(facets_of(grant)) == always | {"usable:search"}
    assert set(facets_of({**grant, "usable": False})) == always


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert words_of("Contoso Ltd.", None, "straße.contoso.com") == ("contoso", "ltd", "strasse", "contoso", "com")


def test_what_callers_search_for_is_not_remembered() -> None:
    scope = Scope(account_id="northwind")
    before = merging._words.cache_info()
    for number in range(100):
        assert "$and" in tenant_filter(TenantQuery(scope=scope, text=f"word{number}"))
    assert merging._words.cache_info() == before
    assert not hasattr(words_of, "cache_info")


def tenant_events() -> st.SearchStrategy[list[Event]]:
    """Events of one tenant, one per revision, as the gateway would number them."""

    def of(kinds: list[str]) -> list[Event]:
        return [event(_make(kind, revision)) for revision, kind in enumerate(kinds, start=1)]

    kind = st.sampled_from(["set-a", "set-a revoked", "set-b", "set-b nameless", "renamed", "removed"])
    return st.lists(kind, min_size=1, max_size=8).map(of)


def _make(kind: str, revision: int) -> EventData:
    name = f"Contoso {revision}"
    match kind.split():
        case ["renamed"]:
            return tenant_event(TenantUpdated, revision=revision, tenant_name=name)
        case ["removed"]:
            return tenant_event(TenantRemoved, revision=revision, reason="disconnected")
        case [permission_set_id, "revoked"]:
            fields = {"status": "revoked", "usable": False, "tenant_name": name}
            return grant_event(PermissionRevoked, revision=revision, permission_set_id=permission_set_id, **fields)
        case [permission_set_id, "nameless"]:
            nameless: dict[str, Any] = {"tenant_name": None, "primary_domain": None}
            return grant_event(revision=revision, permission_set_id=permission_set_id, **nameless)
        case [permission_set_id, *_]:
            return grant_event(revision=revision, permission_set_id=permission_set_id, tenant_name=name)
    raise AssertionError(kind)


def changes_of(events: Sequence[Event]) -> list[TenantChange]:
    return [change for item in events if (change := project(item).change) is not None]


@settings(deadline=None)
@given(events=tenant_events(), data=st.data())
def test_any_order_and_repetition_folds_to_the_same_change(events: list[Event], data: st.DataObject) -> None:
    in_order = fold(changes_of(events))
    repeated = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=5))))
    assert fold(changes_of(repeated)) == in_order


@settings(deadline=None)
@given(events=tenant_events(), data=st.data())
def test_folding_in_parts_is_folding_at_once(events: list[Event], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(events)))
    first, second = fold(changes_of(events[:cut])), fold(changes_of(events[cut:]))
    assert fold([*first, *second]) == fold(changes_of(events))


def test_tenants_and_accounts_are_folded_apart() -> None:
    events = [grant_event(), grant_event(tenant_id=FABRIKAM), grant_event(account_id="adatum")]
    assert {change.key for change in fold(changes_of([event(data) for data in events]))} == {
        f"{ACCOUNT}:{CONTOSO}",
        f"{ACCOUNT}:{FABRIKAM}",
        f"adatum:{CONTOSO}",
    }
