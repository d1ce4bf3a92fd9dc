"""Verification: does Entra show what was accepted? The same check serves a fresh consent and the monitor.

A change that was decided by an outside answer commits only if the grant's revision is still the one read before asking.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol
from weakref import WeakValueDictionary

import structlog
from prometheus_client import Counter

from consent_gateway.catalog import Catalog, PermissionSet, Resource
from consent_gateway.checks import Finding, Judgement, Organization, Rules, judge
from consent_gateway.grants import Entra, Grant
from consent_gateway.registrations import Registrations
from shared.events import Actor, Permission

log = structlog.get_logger(__name__)

CHECKS = Counter("grant_checks_total", "Checks of grants, by what they were good for.", ["outcome"])

SYSTEM = Actor(kind="system", id="consent-gateway")
# Seconds between the tries while a person waits; the last one repeats.
SETTLE_DELAYS = (0.2, 0.3, 0.5, 1.0)
SIBLINGS_WITHIN = timedelta(seconds=10)
# A tenant without a name is asked for it again soon.
NAME_RETRY = timedelta(seconds=60)


class Prober(Protocol):
    """Asks Entra about a tenant, with fresh tokens only. Never raises for an answer, whatever it is."""

    async def find(self, *, tenant_id: str, client_id: str, resources: Sequence[Resource], delegated: bool) -> Finding:
        """What Entra says of the registration on the tenant, resource by resource."""
        raise NotImplementedError


class Grants(Protocol):
    """Where grants are read and their health is kept."""

    async def grants_on(self, account_id: str, tenant_id: str) -> list[Grant]:
        """The account's grants on a tenant."""
        raise NotImplementedError

    async def label(self, account_id: str, tenant_id: str) -> tuple[str | None, str | None]:
        """The tenant's name and primary domain, as far as they are known."""
        raise NotImplementedError

    async def check_soon(self, tenant_id: str, set_ids: Collection[str], *, by: datetime) -> None:
        """Make the grants of these sets on the tenant, of whatever account, due by then."""

    async def note_health(self, grant: Grant, *, token: int | None) -> bool:
        """Keep the health of a grant that did not change otherwise."""
        raise NotImplementedError


class Changes(Protocol):
    """Where what a check decided is written."""

    async def commit_checks(
        self,
        account_id: str,
        tenant_id: str,
        judged: Sequence[Judgement],
        *,
        organization: Organization | None,
        cause: str,
        actor: Actor,
    ) -> tuple[Grant, ...]:
        """Write those whose grant is still the one that was judged; returns them."""
        raise NotImplementedError


class Verification:
    """Checks grants. One tenant is asked by one check at a time in this process; others wait and then ask anew."""

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
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
        process that dies here, and goes on with whatever isn't there when the time is over.
        """
        accepted = [self._catalog.sets[one] for one in set_ids if one in self._catalog.sets]
        due = {other.id for one in accepted for other in self._catalog.sharing_registration(one)}
        until, tries = self._clock() + timedelta(seconds=seconds), 0
        try:
            await self._grants.check_soon(tenant_id, due - set_ids, by=self._clock() + SIBLINGS_WITHIN)
            while due and self._clock() < until:
                grants = await self.check(account_id, tenant_id, due)
                due = {g.permission_set_id for g in grants if g.entra is Entra.VERIFYING} & set_ids
                if due:
                    await asyncio.sleep(SETTLE_DELAYS[min(tries, len(SETTLE_DELAYS) - 1)])
                    tries += 1
        except Exception as error:  # noqa: BLE001 - whatever stands in the way, the consent is committed
            log.warning("verification.postponed", tenant_id=tenant_id, error=type(error).__name__)

    async def check(
        self, account_id: str, tenant_id: str, set_ids: set[str], *, token: int | None = None
    ) -> list[Grant]:
        """Ask Entra about grants of the account on a tenant and write what follows; returns them as they are then.

        ``token`` is that of the lease under which they are checked, if any.

        Raises:
            PyMongoError: what was found could not be written; nothing is lost but the asking.
        """
        # Whoever waits keeps the lock alive, so that memory doesn't grow with the tenants ever seen.
        turn = self._turns.setdefault(tenant_id, asyncio.Lock())
        async with turn:
            grants = [
                grant
                for grant in await self._grants.grants_on(account_id, tenant_id)
                if grant.live and grant.permission_set_id in set_ids and grant.permission_set_id in self._catalog.sets
            ]
            grants.sort(key=self._registration)
            after: list[Grant] = []
            for _, group in groupby(grants, key=self._registration):
                after += await self._check(account_id, tenant_id, list(group), token)
            return after

    def _registration(self, grant: Grant) -> str:
        return self._catalog.sets[grant.permission_set_id].registration

    async def _check(self, account_id: str, tenant_id: str, grants: list[Grant], token: int | None) -> list[Grant]:
        """Check grants of one client registration by the same answers."""
        permission_set = self._catalog.sets[grants[0].permission_set_id]
        finding = await self._find(tenant_id, permission_set, grants)
        known = frozenset(p for one in self._catalog.sharing_registration(permission_set) for p in one.required)
        now = self._clock()
        judged = [judge(grant, finding, known=known, now=now, rules=self._rules) for grant in grants]
        if finding.organization_later:
            judged = [_ask_name_again(judgement, now) for judgement in judged]
        changed = await self._write(account_id, tenant_id, grants, judged, finding.organization)
        for before, judgement in zip(grants, judged, strict=True):
            if not judgement.changed:
                await self._grants.note_health(judgement.grant, token=token)
            _observe(before, judgement, finding)
        return [changed.get(one.grant.permission_set_id, one.grant) for one in judged]

    async def _find(self, tenant_id: str, permission_set: PermissionSet, grants: list[Grant]) -> Finding:
        accepted = {permission for grant in grants for permission in grant.accepted}
        resources = self._resources(accepted, permission_set)
        finding = await self._prober.find(
            tenant_id=tenant_id,
            client_id=permission_set.client_id,
            resources=resources,
            delegated=any(permission.type == "delegated" for permission in accepted),
        )
        return await self._registrations.excuse(finding, client_id=permission_set.client_id, resources=resources)

    def _resources(self, accepted: set[Permission], permission_set: PermissionSet) -> tuple[Resource, ...]:
        """The APIs of what was accepted, be it by an older version of the set; always one, to be answered at all."""
        ids = {permission.resource_app_id for permission in accepted}
        known = {r.app_id: r for one in self._catalog.sets.values() for r in one.resources if r.app_id in ids}
        return tuple(known.values()) or permission_set.resources[:1]

    async def _write(
        self,
        account_id: str,
        tenant_id: str,
        before: list[Grant],
        judged: list[Judgement],
        organization: Organization | None,
    ) -> dict[str, Grant]:
        """Commit what changed: fresh consents in the name of who accepted, everything else in the system's."""
        changed = {one.grant.permission_set_id: one for one in judged if one.changed}
        fresh = [g for g in before if g.permission_set_id in changed and g.entra is Entra.VERIFYING and g.granted_by]
        others = [g for g in before if g.permission_set_id in changed and g not in fresh]
        label = await self._grants.label(account_id, tenant_id)
        if organization is not None and label == (organization.name, organization.primary_domain):
            organization = None
        written: tuple[Grant, ...] = ()
        if fresh:
            actor = Actor(kind="administrator", id=fresh[0].granted_by or "")
            chosen = [changed[grant.permission_set_id] for grant in fresh]
            written += await self._changes.commit_checks(
                account_id, tenant_id, chosen, organization=organization, cause="verification", actor=actor
            )
        if others or (organization is not None and not fresh):
            chosen = [changed[grant.permission_set_id] for grant in others]
            written += await self._changes.commit_checks(
                account_id, tenant_id, chosen, organization=organization, cause="check", actor=SYSTEM
            )
        self._committed()
        return {grant.permission_set_id: grant for grant in written}


def _ask_name_again(judgement: Judgement, now: datetime) -> Judgement:
    health = judgement.grant.health
    if health.next_at is None or health.next_at <= now + NAME_RETRY:
        return judgement
    return replace(judgement, grant=replace(judgement.grant, health=replace(health, next_at=now + NAME_RETRY)))


def _observe(before: Grant, judgement: Judgement, finding: Finding) -> None:
    CHECKS.labels(str(judgement.outcome)).inc()
    log.info(
        "grant.checked",
        account_id=before.account_id,
        tenant_id=before.tenant_id,
        permission_set_id=before.permission_set_id,
        outcome=str(judgement.outcome),
        status_before=str(before.status),
        status_after=str(judgement.grant.status),
        unanswered=finding.unanswered,
        next_at=judgement.grant.health.next_at.isoformat() if judgement.grant.health.next_at else None,
    )
