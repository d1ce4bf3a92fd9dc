"""Verification: does Entra show what was accepted? The same check serves a fresh consent and the monitor.

A change that was decided by an outside answer commits only if the grant is still the one that was read before asking:
neither changed nor checked since, and still under the lease of whoever asked.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import random

import structlog
from prometheus_client import Counter

from consent_gateway.catalog.model import Catalog, Resource
from consent_gateway.checks.checks import Finding, Judgement, Organization, Outcome, judge
from consent_gateway.checks.neighbours import Changes, Grants, Prober
from consent_gateway.checks.registrations import Registrations
from consent_gateway.checks.rounds import Rounds
from consent_gateway.checks.schedule import Rules, is_full_due, name_again
from consent_gateway.grants.grants import Entra, Grant
from shared.events import Actor

log = structlog.get_logger(__name__)

CHECKS = Counter("grant_checks_total", "Checks of grants, by what they were good for.", ["outcome"])

SYSTEM = Actor(kind="system", id="consent-gateway")
# Seconds between the tries while a person waits; the last one repeats.
SETTLE_DELAYS = (0.2, 0.3, 0.5, 1.0)
SIBLINGS_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came of a check under leases: whether Entra was too busy, and what changed and still has its lease."""

    busy: bool
    leased: tuple[Grant, ...]


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Grants of one client registration on a tenant: the same answers serve them. ``tokens`` are those of leases."""

    account_id: str
    tenant_id: str
    client_id: str
    grants: tuple[Grant, ...]
    tokens: Mapping[str, int]


class Verification:
    """Checks grants. A tenant is asked by one check at a time in this process; who waits for it shares the next one."""

    def __init__(
        self,
        catalog: Catalog,
        rules: Rules,
        *,
        prober: Prober,
        registrations: Registrations,
        grants: Grants,
        changes: Changes,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._catalog = catalog
        self._rules = rules
        self._prober = prober
        self._registrations = registrations
        self._grants = grants
        self._changes = changes
        self._committed = committed
        self._clock = clock
        self._settling: set[asyncio.Task[None]] = set()
        self._rounds: Rounds[list[Judgement]] = Rounds()

    async def settle(self, account_id: str, tenant_id: str, set_ids: Sequence[str], *, seconds: float) -> None:
        """Verify what was just accepted, for as long as a person may wait; never raises, since the consent stands."""
        # Left to end by itself rather than cancelled: a transaction that is under way is not to be torn apart.
        settling = asyncio.create_task(self._settle(account_id, tenant_id, set(set_ids), seconds))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)
        await asyncio.wait({settling}, timeout=seconds)

    async def _settle(self, account_id: str, tenant_id: str, set_ids: set[str], seconds: float) -> None:
        """Look again and again; the first look also covers what the Accept may have taken away.

        That is all sets of the same client registrations. The monitor looks at them too, for other accounts and for a
        process that dies here, and goes on with whatever isn't there when the time is over, or when Entra asks for it.
        """
        accepted = [self._catalog.sets[one] for one in set_ids if one in self._catalog.sets]
        due = {other.id for one in accepted for other in self._catalog.sharing_registration(one)}
        until, tries = self._clock() + timedelta(seconds=seconds), 0
        try:
            await self._grants.check_soon(tenant_id, due, by=self._clock() + SIBLINGS_WITHIN)
            while due and self._clock() < until:
                grants = await self.check(account_id, tenant_id, due)
                waiting = [g for g in grants if g.entra is Entra.VERIFYING and g.permission_set_id in set_ids]
                due = {
                    g.permission_set_id for g in waiting if g.health.not_before is None or g.health.not_before < until
                }
                if due:
                    await asyncio.sleep(SETTLE_DELAYS[min(tries, len(SETTLE_DELAYS) - 1)])
                    tries += 1
        except Exception as error:  # noqa: BLE001 - whatever stands in the way, the consent is committed
            log.warning("verification.postponed", tenant_id=tenant_id, error=type(error).__name__)

    async def check(self, account_id: str, tenant_id: str, set_ids: set[str]) -> list[Grant]:
        """Ask Entra about grants of the account on a tenant and write what follows; returns them as they are then.

        What Entra is asked goes out after this was called: an answer to an earlier question is never taken for it.

        Raises:
            PyMongoError: what was found could not be written; nothing is lost but the asking.
        """

        async def look(wanted: set[str]) -> list[Judgement]:
            grants = await self._grants.grants_on(account_id, tenant_id)
            return await self._check_all((one for one in grants if one.live and one.permission_set_id in wanted), {})

        judged = await self._rounds.join(account_id, tenant_id, set_ids, look)
        return [one.grant for one in judged if one.grant.permission_set_id in set_ids]

    async def check_claimed(self, claimed: Sequence[Grant], tokens: Mapping[str, int]) -> Checked:
        """Check grants of one account on one tenant under the leases whose tokens these are, by permission set.

        Raises:
            PyMongoError: as ``check``.
        """
        async with self._rounds.turn(claimed[0].tenant_id):
            judged = await self._check_all(claimed, tokens)
        errors = [one.grant.health.error or "" for one in judged]
        return Checked(
            busy=any(error.startswith(("transient", "graph")) for error in errors),
            leased=tuple(one.before for one in judged if one.changed),
        )

    async def _check_all(self, grants: Iterable[Grant], tokens: Mapping[str, int]) -> list[Judgement]:
        groups: dict[str, list[Grant]] = {}
        after: list[Judgement] = []
        for grant in grants:
            client_id = self._client_id(grant)
            if client_id is None:
                after.append(await self._postpone(grant, tokens))
            else:
                groups.setdefault(client_id, []).append(grant)
        for client_id, group in groups.items():
            first = group[0]
            after += await self._check(
                _Group(
                    account_id=first.account_id,
                    tenant_id=first.tenant_id,
                    client_id=client_id,
                    grants=tuple(group),
                    tokens=tokens,
                )
            )
        return after

    def _client_id(self, grant: Grant) -> str | None:
        """The registration that was consented to; grants of old don't name it, and then the catalogue does."""
        permission_set = self._catalog.sets.get(grant.permission_set_id)
        return grant.client_id or (permission_set.client_id if permission_set is not None else None)

    async def _postpone(self, grant: Grant, tokens: Mapping[str, int]) -> Judgement:
        """Nobody knows any more by which registration to ask: look again when the catalogue may know."""
        next_at = self._clock() + timedelta(seconds=self._rules.interval_seconds)
        after = replace(grant, health=replace(grant.health, next_at=next_at, error="unknown_registration"))
        judgement = Judgement(before=grant, grant=after, changed=False, outcome=Outcome.INCONCLUSIVE)
        await self._grants.note_health(judgement, token=tokens.get(grant.permission_set_id))
        return judgement

    async def _check(self, group: _Group) -> list[Judgement]:
        """Check grants of one client registration by the same answers."""
        finding = await self._find(group)
        judged = self._judge(group, finding)
        doubt = await self._registrations.doubt(group.client_id, judged)
        if doubt is not None:
            await self._registrations.hold(group.client_id, doubt)
            judged = self._judge(group, replace(finding, gone=None, unanswered=doubt))
        label: tuple[str | None, str | None] | None = None
        if finding.organization is not None or finding.organization_later:
            label = await self._grants.label(group.account_id, group.tenant_id)
        if finding.organization_later and label is not None and label[0] is None:
            judged = [_ask_name_again(judgement, finding, self._clock()) for judgement in judged]
        news = finding.organization
        if news is not None and label == (news.name, news.primary_domain):
            news = None
        changed = await self._write(group, judged, news)
        unchanged = [one for one in judged if not one.changed]
        await asyncio.gather(
            *(self._grants.note_health(one, token=group.tokens.get(one.grant.permission_set_id)) for one in unchanged)
        )
        for judgement in judged:
            _observe(judgement, finding)
        return [replace(one, grant=changed.get(one.grant.permission_set_id, one.grant)) for one in judged]

    def _judge(self, group: _Group, finding: Finding) -> list[Judgement]:
        known = frozenset(
            permission
            for one in self._catalog.sets.values()
            if one.client_id == group.client_id
            for permission in one.required
        )
        now, spread = self._clock(), random()  # noqa: S311 - spreads load, guards nothing
        return [
            judge(
                replace(
                    grant,
                    client_id=group.client_id,
                    service_principal_id=finding.service_principal_id or grant.service_principal_id,
                ),
                finding,
                known=known,
                now=now,
                rules=self._rules,
                spread=spread,
            )
            for grant in group.grants
        ]

    async def _find(self, group: _Group) -> Finding:
        accepted = {permission for grant in group.grants for permission in grant.accepted}
        now = self._clock()
        finding = await self._prober.find(
            tenant_id=group.tenant_id,
            client_id=group.client_id,
            resources=self._resources({permission.resource_app_id for permission in accepted}),
            delegated=any(permission.type == "delegated" for permission in accepted),
            full=any(is_full_due(grant, now) for grant in group.grants),
        )
        return await self._registrations.excuse(finding, client_id=group.client_id)

    def _resources(self, app_ids: set[str]) -> tuple[Resource, ...]:
        """The APIs of what was accepted, be it by an older version of the set, or one that left the catalogue.

        Every API answers to its app id too.
        """
        known = {r.app_id: r for one in self._catalog.sets.values() for r in one.resources if r.app_id in app_ids}
        return tuple(known.get(one) or Resource(app_id=one, identifier=one, name=one) for one in sorted(app_ids))

    async def _write(
        self, group: _Group, judged: list[Judgement], organization: Organization | None
    ) -> dict[str, Grant]:
        """Commit what changed: fresh consents in the name of who accepted, everything else in the system's."""
        changed = [one for one in judged if one.changed]
        # An arrival is the administrator's; that something never came, or came in part, is nobody's doing.
        fresh = [one for one in changed if one.before.entra is Entra.VERIFYING and one.grant.entra is Entra.COMPLETE]
        others = [one for one in changed if one not in fresh]
        written: tuple[Grant, ...] = ()
        where = (group.account_id, group.tenant_id)
        if fresh:
            actor = Actor(kind="administrator", id=fresh[0].before.granted_by or "")
            written += await self._changes.commit_checks(
                *where, fresh, tokens=group.tokens, organization=organization, cause="verification", actor=actor
            )
        if others or (organization is not None and not fresh):
            written += await self._changes.commit_checks(
                *where, others, tokens=group.tokens, organization=organization, cause="check", actor=SYSTEM
            )
        if fresh or others or organization is not None:
            self._committed()
        return {grant.permission_set_id: grant for grant in written}


def _ask_name_again(judgement: Judgement, finding: Finding, now: datetime) -> Judgement:
    """Look sooner at a tenant whose name could not be read yet, with pauses that grow, and not before Graph wants."""
    health = judgement.grant.health
    again = max(name_again(judgement.grant, now), now + timedelta(seconds=finding.retry_after or 0.0))
    if judgement.changed or health.next_at is None or health.next_at <= again:
        return replace(judgement, grant=replace(judgement.grant, health=replace(health, full_at=None)))
    return replace(judgement, grant=replace(judgement.grant, health=replace(health, next_at=again, full_at=None)))


def _observe(judgement: Judgement, finding: Finding) -> None:
    CHECKS.labels(str(judgement.outcome)).inc()
    before, after = judgement.before, judgement.grant
    log.info(
        "grant.checked",
        account_id=before.account_id,
        tenant_id=before.tenant_id,
        permission_set_id=before.permission_set_id,
        outcome=str(judgement.outcome),
        status_before=str(before.status),
        status_after=str(after.status),
        unanswered=after.health.error or finding.unanswered,
        next_at=after.health.next_at.isoformat() if after.health.next_at else None,
    )
