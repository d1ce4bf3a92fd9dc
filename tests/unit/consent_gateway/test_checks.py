"""What checks do to grants: several definite negatives take something away, and nothing else does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent_gateway.catalog.file import load_catalog
from consent_gateway.checks.checks import Delegated, Finding, Judgement, Outcome, assess, judge
from consent_gateway.checks.schedule import Rules
from consent_gateway.grants.events import event_of
from consent_gateway.grants.grants import Entra, Grant, Reason, Status, Tenant, accept, gone
from shared.events import Actor, Permission
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM

CATALOG = load_catalog(None, CLIENT_IDS)
SET = CATALOG.sets["read-directory-data"]
GRAPH = SET.permissions[0].resource.app_id
ALL = frozenset({"Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"})
RULES = Rules(interval_seconds=3600, negatives=3, negatives_span_seconds=900)
T0 = datetime(2026, 11, 23, tzinfo=UTC)


def accepted(previous: Grant | None = None, at: datetime = T0) -> Grant:
    return accept(
        previous,
        SET,
        account_id="northwind",
        tenant_id=CONTOSO,
        administrator="admin",
        attempt_id="attempt",
        now=at,
        verify_until=at + timedelta(days=1),
        first_check_at=at + timedelta(seconds=7),
    )


def found(*values: str, **more: Any) -> Finding:
    return Finding(roles={GRAPH: frozenset(values)}, **more)


def check(grant: Grant, finding: Finding, seconds: float = 1) -> Judgement:
    return judge(grant, finding, known=frozenset(SET.required), now=T0 + timedelta(seconds=seconds), rules=RULES)


def granted() -> Grant:
    return check(accepted(), found(*ALL)).grant


def test_all_there_is_granted_and_what_cannot_be_checked_does_not_hold_it_back() -> None:
    judgement = check(accepted(), found(*ALL))
    grant = judgement.grant
    assert (judgement.changed, grant.status, grant.usable) == (True, Status.GRANTED, True)
    assert {p.value for p in grant.permissions} == ALL
    assert [p.value for p in grant.unverified] == ["User.Read"]
    assert grant.verified_at == T0 + timedelta(seconds=1)


def test_delegated_permissions_are_verified_where_they_can_be_read() -> None:
    seen = check(accepted(), found(*ALL, delegated=frozenset({(GRAPH, "User.Read")}))).grant
    assert (seen.unverified, len(seen.permissions)) == ((), 4)
    unseen = check(accepted(), found(*ALL, delegated=frozenset({(GRAPH, "openid")})))
    assert (unseen.changed, unseen.outcome) == (False, Outcome.NOT_YET)


def test_what_nobody_asked_for_is_extra_unless_a_set_of_the_registration_asks_for_it() -> None:
    assert [p.value for p in check(accepted(), found(*ALL, "Mail.Read")).grant.extra] == ["Mail.Read"]
    mail = Permission(resource_app_id=GRAPH, value="Mail.Read", type="application")
    assert assess(SET.required, frozenset({mail}), found(*ALL, "Mail.Read")).extra == ()


def test_not_there_yet_is_asked_again_with_growing_pauses_and_changes_nothing() -> None:
    grant, pauses, at = accepted(), [], 0.0
    for _ in range(8):
        judgement = check(grant, found("Group.Read.All"), at)
        assert (judgement.changed, judgement.grant.status) == (False, Status.VERIFYING)
        grant = judgement.grant
        assert grant.health.next_at is not None
        pause = (grant.health.next_at - T0).total_seconds() - at
        pauses.append(pause)
        at += pause
    assert pauses == [2, 5, 10, 20, 40, 60, 60, 60]
    late = check(grant, found(), 700).grant.health.next_at
    assert late == T0 + timedelta(seconds=1000)


@pytest.mark.parametrize(
    ("finding", "status", "reason"),
    [
        (found("Group.Read.All"), Status.PARTIAL, None),
        (found(), Status.REVOKED, "not_granted"),
        (found(gone=Reason.REMOVED), Status.REVOKED, "not_granted"),
    ],
)
def test_verifying_ends_at_its_deadline(finding: Finding, status: Status, reason: str | None) -> None:
    grant = accepted()
    for seconds in (1.0, 1000.0, 50_000.0):
        grant = check(grant, finding, seconds).grant
        assert grant.status is Status.VERIFYING
    judgement = check(grant, finding, 86_401)
    assert (judgement.changed, judgement.grant.status, judgement.grant.reason) == (True, status, reason)


def test_the_deadline_alone_takes_nothing_away() -> None:
    """Entra was silent for a day: one negative afterwards is still only one."""
    judgement = check(accepted(), found(), 100_000)
    assert (judgement.changed, judgement.grant.status) == (False, Status.VERIFYING)


@pytest.mark.parametrize("reason", [Reason.REMOVED, Reason.DISABLED, Reason.TENANT_DELETED])
def test_a_removal_needs_several_answers_over_some_time(reason: Reason) -> None:
    grant = granted()
    for seconds in (10, 400, 800):
        judgement = check(grant, Finding(roles={}, gone=reason), seconds)
        assert (judgement.changed, judgement.outcome) == (False, Outcome.NEGATIVE)
        grant = judgement.grant
    judgement = check(grant, Finding(roles={}, gone=reason), 911)
    assert (judgement.changed, judgement.grant.status, judgement.grant.reason) == (True, Status.REVOKED, reason)
    assert (judgement.grant.apps, judgement.grant.health.next_at) == ((), None)


def test_a_removal_that_somebody_tells_of_takes_as_many_answers_but_little_time() -> None:
    grant = granted()
    grant = replace(grant, health=replace(grant.health, removal_said_at=T0 + timedelta(seconds=60)))
    seconds = 60.0
    for _ in range(RULES.negatives - 1):
        judgement = check(grant, Finding(roles={}, gone=Reason.REMOVED), seconds)
        grant = judgement.grant
        assert (judgement.changed, grant.status) == (False, Status.GRANTED)
        assert grant.health.next_at == T0 + timedelta(seconds=seconds + 5)
        seconds += 5
    assert check(grant, Finding(roles={}, gone=Reason.REMOVED), seconds).grant.status is Status.REVOKED
    assert seconds < 120
    assert check(grant, found(*ALL), seconds).grant.health.negatives == 0
    assert check(grant, Finding(roles={}, unanswered="timeout"), seconds).grant.status is Status.GRANTED
    late = check(grant, Finding(roles={}, gone=Reason.REMOVED), 60 + 601).grant
    assert late.status is Status.GRANTED


def test_what_was_just_accepted_is_not_waited_for_where_somebody_says_that_it_was_taken_away_again() -> None:
    said = accepted()
    said = replace(said, health=replace(said.health, removal_said_at=T0 + timedelta(seconds=30)))
    seconds = 30.0
    for _ in range(RULES.negatives - 1):
        judgement = check(said, found(), seconds)
        said, seconds = judgement.grant, seconds + 5
        assert (judgement.changed, said.status) == (False, Status.VERIFYING)
    gone_again = check(said, found(), seconds).grant
    assert (gone_again.status, gone_again.reason) == (Status.REVOKED, "not_granted")


def test_one_good_answer_starts_the_count_of_negatives_anew() -> None:
    grant = granted()
    for seconds in (10, 400):
        grant = check(grant, found(), seconds).grant
    grant = check(grant, found(*ALL), 500).grant
    assert grant.health.negatives == 0
    for seconds in (1000, 1500):
        judgement = check(grant, found(), seconds)
        assert not judgement.changed
        grant = judgement.grant


def test_a_lost_permission_makes_the_grant_partial_and_its_return_is_noticed_at_once() -> None:
    grant = granted()
    for seconds in (10, 500, 950):
        grant = check(grant, found("Directory.Read.All", "Group.Read.All"), seconds).grant
    assert (grant.status, grant.usable, [p.value for p in grant.missing]) == (
        Status.PARTIAL,
        True,
        ["GroupMember.Read.All"],
    )
    worse = check(grant, found("Group.Read.All"), 1000)
    assert (worse.changed, worse.grant.status) == (False, Status.PARTIAL)
    back = check(worse.grant, found(*ALL), 1001)
    assert (back.changed, back.grant.status) == (True, Status.GRANTED)


def test_what_comes_back_to_a_partial_grant_is_noticed_at_once_though_more_is_missing() -> None:
    grant = granted()
    for seconds in (10, 500, 950):
        grant = check(grant, found("Directory.Read.All"), seconds).grant
    assert {p.value for p in grant.missing} == {"Group.Read.All", "GroupMember.Read.All"}
    better = check(grant, found("Directory.Read.All", "Group.Read.All"), 960)
    assert (better.changed, better.grant.status, better.grant.health.negatives) == (True, Status.PARTIAL, 0)
    assert [p.value for p in better.grant.missing] == ["GroupMember.Read.All"]
    # One for another is a loss as well, and that needs several answers.
    swapped = check(better.grant, found("Group.Read.All", "GroupMember.Read.All"), 970)
    assert (swapped.changed, swapped.outcome) == (False, Outcome.NEGATIVE)


def test_the_same_name_on_another_api_is_another_permission() -> None:
    other = Permission(resource_app_id=FABRIKAM, value="Directory.Read.All", type="application")
    both = replace(granted(), accepted=(*SET.required, other), permissions=(*granted().permissions, other))
    there = Finding(roles={GRAPH: ALL, FABRIKAM: frozenset()})
    for seconds in (10, 500, 950):
        both = check(both, there, seconds).grant
    assert (both.status, both.missing) == (Status.PARTIAL, (other,))
    extra = check(granted(), Finding(roles={GRAPH: ALL, FABRIKAM: frozenset({"Directory.Read.All"})})).grant.extra
    assert extra == (other,)


@pytest.mark.parametrize("finding", [found(unanswered="transient"), found(*ALL, unanswered="ours", ours=True)])
def test_an_answer_that_could_not_be_had_changes_nothing_for_ever(finding: Finding) -> None:
    grant = granted()
    for count in range(1, 20):
        judgement = check(grant, finding, count * 10_000)
        assert (judgement.changed, judgement.outcome) == (False, Outcome.INCONCLUSIVE)
        assert replace(judgement.grant, health=grant.health) == grant
        grant = judgement.grant
    assert (grant.health.failures, grant.health.negatives) == (19, 0)


def test_a_graph_that_fails_neither_grants_nor_takes_away() -> None:
    """Delegated permissions that can't be read just now are not the same as those that never can."""
    seen = frozenset({(GRAPH, "User.Read")})
    partial = check(accepted(), found(*ALL, delegated=seen)).grant
    for seconds in (10, 500, 950):
        partial = check(partial, found(*ALL, delegated=frozenset()), seconds).grant
    assert (partial.status, [p.value for p in partial.missing]) == (Status.PARTIAL, ["User.Read"])
    later = check(partial, found(*ALL, delegated=Delegated.LATER), 2000)
    assert (later.changed, later.outcome, later.grant.status) == (False, Outcome.INCONCLUSIVE, Status.PARTIAL)
    whole = check(accepted(), found(*ALL, delegated=seen)).grant
    losing = check(whole, found(*ALL, delegated=frozenset()), 10).grant
    again = check(losing, found(*ALL, delegated=Delegated.LATER), 20).grant
    assert (again.health.negatives, again.permissions) == (1, whole.permissions)


def test_a_check_that_did_not_ask_for_delegated_permissions_leaves_them_as_they_were() -> None:
    for delegated in (frozenset({(GRAPH, "User.Read")}), Delegated.UNREADABLE):
        grant = check(accepted(), found(*ALL, delegated=delegated)).grant
        judgement = check(grant, found(*ALL, delegated=Delegated.UNASKED, full=False), 4000)
        assert (judgement.changed, judgement.outcome) == (False, Outcome.GOOD)
        assert judgement.grant.health.full_at == grant.health.full_at


def test_an_api_that_the_tenant_lacks_makes_a_fresh_consent_partly_usable_soon() -> None:
    other = Permission(resource_app_id=FABRIKAM, value="Reports.Read", type="application")
    grant = replace(accepted(), accepted=(*SET.required, other))
    finding = found(*ALL, absent=frozenset({FABRIKAM}))
    for seconds in (1, 3, 8):
        assert grant.status is Status.VERIFYING
        grant = check(grant, finding, seconds).grant
    assert (grant.status, grant.usable, grant.missing) == (Status.PARTIAL, True, (other,))
    assert grant.health.absent == (FABRIKAM,)
    incomplete = replace(accepted(), accepted=(*SET.required, other))
    for seconds in (1, 3, 8, 20):
        incomplete = check(incomplete, found("Group.Read.All", absent=frozenset({FABRIKAM})), seconds).grant
    assert incomplete.status is Status.VERIFYING
    back = check(grant, Finding(roles={GRAPH: ALL, FABRIKAM: frozenset({"Reports.Read"})}), 5000)
    assert (back.grant.status, back.grant.health.absent) == (Status.GRANTED, ())


def test_entras_wish_to_be_left_alone_is_honoured() -> None:
    grant = check(granted(), found(unanswered="transient", retry_after=1800.0), 100).grant
    assert grant.health.next_at == grant.health.not_before == T0 + timedelta(seconds=1900)
    assert check(grant, found(*ALL), 2000).grant.health.not_before is None


def test_a_check_that_changed_nothing_says_nothing() -> None:
    judgement = check(granted(), found(*ALL), 4000)
    assert (judgement.changed, judgement.outcome) == (False, Outcome.GOOD)
    assert judgement.grant.health.next_at == T0 + timedelta(seconds=7600)


def test_accepting_again_keeps_what_was_there_usable_and_lifts_a_block() -> None:
    again = accepted(replace(granted(), blocked=True, revision=7), T0 + timedelta(days=3))
    assert (again.status, again.usable, again.blocked, again.revision) == (Status.VERIFYING, True, False, 7)
    after_revocation = accepted(gone(granted(), Reason.REMOVED), T0 + timedelta(days=3))
    assert (after_revocation.status, after_revocation.usable) == (Status.VERIFYING, False)


def test_blocked_is_checked_on_but_stays_blocked() -> None:
    blocked = replace(granted(), blocked=True)
    assert check(blocked, found(*ALL), 4000).grant.status is Status.BLOCKED
    for seconds in (10, 500, 950):
        blocked = check(blocked, found(), seconds).grant
    assert blocked.status is Status.REVOKED


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"entra": Entra.COMPLETE}, Status.GRANTED),
        ({"entra": Entra.COMPLETE, "asks_more": True}, Status.UPDATE_AVAILABLE),
        ({"entra": Entra.INCOMPLETE, "asks_more": True}, Status.PARTIAL),
        ({"entra": Entra.VERIFYING}, Status.VERIFYING),
        ({"entra": Entra.COMPLETE, "blocked": True}, Status.BLOCKED),
        ({"entra": Entra.GONE, "blocked": True}, Status.REVOKED),
    ],
)
def test_the_status_follows_from_what_is_stored(changes: dict[str, Any], status: Status) -> None:
    assert replace(granted(), **changes).status is status


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, Entra.VERIFYING, "PermissionChanged"),
        (Entra.VERIFYING, Entra.COMPLETE, "PermissionGranted"),
        (Entra.INCOMPLETE, Entra.COMPLETE, "PermissionGranted"),
        (Entra.COMPLETE, Entra.COMPLETE, "PermissionChanged"),
        (Entra.COMPLETE, Entra.INCOMPLETE, "PermissionChanged"),
        (Entra.COMPLETE, Entra.GONE, "PermissionRevoked"),
    ],
)
def test_events_are_named_for_what_was_arrived_at(before: Entra | None, after: Entra, kind: str) -> None:
    tenant = Tenant(
        account_id="northwind",
        tenant_id=CONTOSO,
        tenant_name="Contoso Ltd",
        primary_domain="contoso.com",
        cloud="global",
        revision=1,
        updated_at=T0,
        people={},
    )
    event = event_of(
        replace(granted(), entra=before) if before is not None else None,
        replace(granted(), entra=after, revision=9),
        tenant=tenant,
        previous_revision=8,
        cause="check",
        actor=Actor(kind="system", id="x"),
        occurred_at=T0,
    )
    assert (type(event).__name__, event.revision, event.previous_revision) == (kind, 9, 8)


answers = st.one_of(
    st.builds(lambda values: found(*values), st.sets(st.sampled_from(sorted(ALL)))),
    st.just(found(unanswered="transient")),
    st.sampled_from(Reason).map(lambda reason: Finding(roles={}, gone=reason)),
)


@given(st.lists(st.tuples(answers, st.integers(1, 5_000)), max_size=30))
def test_no_sequence_of_answers_takes_away_without_enough_negatives_in_a_row(
    steps: list[tuple[Finding, int]],
) -> None:
    grant, at, negatives, since = granted(), 1.0, 0, 0.0
    for finding, pause in steps:
        if not grant.live:
            return
        at += pause
        before = grant
        grant = check(grant, finding, at).grant
        complete = finding.gone is None and finding.unanswered is None and finding.roles[GRAPH] >= ALL
        if complete:
            negatives = 0
        elif finding.unanswered is None:
            negatives, since = negatives + 1, since if negatives else at
        lost = not grant.live or len(grant.permissions) < len(before.permissions)
        if lost:
            assert negatives >= RULES.negatives
            assert at - since >= RULES.negatives_span_seconds
            negatives = 0
