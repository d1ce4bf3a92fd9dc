"""How a step of a run ends: committed and gone on with, held for an operator, or refused with its event."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog
from prometheus_client import Counter

from consent_gateway.catalog.model import PermissionSet
from consent_gateway.consent.attempts import Attempt, Ended, Phase, Proven, Redirect
from consent_gateway.consent.legs import Legs
from consent_gateway.consent.neighbours import Neighbours
from consent_gateway.consent.proof import Administrator
from consent_gateway.entra.answers import Answer, Stage
from consent_gateway.entra.consequences import how_it_ends
from consent_gateway.errors import Kind, Refused

log = structlog.get_logger(__name__)

ENDED = Counter("consents_total", "Permission sets granted, and attempts ended otherwise, by how.", ["outcome"])
ROLES_MISSING = Counter(
    "entra_roles_not_proven_total",
    "Sign-ins without directory roles: the registration's manifest must emit them.",
    ["client"],
)


class Endings:
    """Ends steps of taken attempts. Whoever lost the attempt meanwhile is refused as ``used``."""

    def __init__(self, legs: Legs, neighbours: Neighbours) -> None:
        self._legs = legs
        self._rules = legs.rules
        self._near = neighbours
        self._settling: set[asyncio.Task[None]] = set()

    async def answered(self, attempt: Attempt, answer: Answer) -> Ended:
        """End the attempt as Entra's answer says."""
        return await self.refuse(
            attempt, how_it_ends(answer.klass), answer.stage, error_code=answer.name, detail=answer.resource_app_id
        )

    async def refuse(
        self,
        attempt: Attempt,
        kind: Kind,
        stage: Stage,
        *,
        error_code: str | None = None,
        detail: str | None = None,
        proven: Proven | None = None,
    ) -> Ended:
        """End the attempt without what still remains of it; what was committed before stays, and is verified.

        Raises:
            Refused: used, the attempt isn't the caller's any more.
        """
        proven = proven or attempt.proven
        closed = await self._near.records.fail_attempt(
            attempt,
            kind=kind,
            stage=str(stage),
            error_code=error_code,
            detail=detail,
            tenant_id=proven.tenant_id if proven is not None else None,
            proven=proven,
        )
        if not closed:
            raise Refused(Kind.USED)
        self._near.committed()
        ENDED.labels(str(kind)).inc()
        if kind is Kind.ROLE_NOT_PROVEN:
            ROLES_MISSING.labels(self._client_of(attempt)).inc()
        log.info(
            "consent.ended",
            attempt_id=attempt.id,
            account_id=attempt.account_id,
            tenant_id=proven.tenant_id if proven is not None else None,
            stage=str(stage),
            reason=str(kind),
            detail=detail,
            answer=error_code,
        )
        return Ended(attempt.id)

    async def commit(
        self, attempt: Attempt, permission_sets: Sequence[PermissionSet], administrator: Administrator
    ) -> Redirect | Ended:
        """Write what was accepted and proven, then go on to the next registration or wait for the verification."""
        now = self._near.clock()
        proven = Proven(tenant_id=administrator.tenant_id, object_id=administrator.object_id, at=now)
        try:
            if attempt.needs_confirmation:
                await self._near.records.hold_consent(attempt, permission_sets, administrator=administrator, now=now)
            else:
                await self._write(attempt, permission_sets, administrator)
        except Refused as refused:
            if refused.kind is Kind.USED:
                raise
            return await self.refuse(attempt, refused.kind, Stage.REDEEM, proven=proven)
        done = {permission_set.id for permission_set in permission_sets}
        remaining = tuple(one for one in attempt.remaining if one not in done)
        onward = replace(attempt, remaining=remaining, tenant_id=administrator.tenant_id, proven=proven)
        if not attempt.needs_confirmation:
            # What comes after may fail or be left; what was accepted is looked at in any case.
            settling = self._settle(onward)
            if not remaining:
                await asyncio.wait({settling})
        return await self._go_on(onward) if remaining else Ended(attempt.id)

    async def _write(
        self, attempt: Attempt, permission_sets: Sequence[PermissionSet], administrator: Administrator
    ) -> None:
        now = self._near.clock()
        grants = await self._near.records.commit_consent(
            attempt,
            permission_sets,
            administrator=administrator,
            now=now,
            verify_until=now + timedelta(seconds=self._rules.verify_deadline_seconds),
            # This request verifies first; the worker takes over from a process that died meanwhile.
            first_check_at=now + timedelta(seconds=self._rules.wait_seconds + 2),
        )
        self._near.committed()
        ENDED.labels("granted").inc(len(grants))
        log.info(
            "consent.proven",
            attempt_id=attempt.id,
            account_id=attempt.account_id,
            tenant_id=administrator.tenant_id,
            channel=str(attempt.channel),
            permission_sets=[grant.permission_set_id for grant in grants],
            held_apps=[held.app_id for grant in grants for held in grant.held_apps],
        )

    async def _go_on(self, attempt: Attempt) -> Redirect | Ended:
        try:
            url, leg = await self._legs.consent(attempt)
        except Refused as refused:
            return await self.refuse(attempt, refused.kind, Stage.CONSENT)
        expires_at = self._near.clock() + timedelta(seconds=self._rules.attempt_seconds)
        if not await self._near.attempts.send(attempt, phase=Phase.CONSENT, leg=leg, expires_at=expires_at):
            raise Refused(Kind.USED)
        return Redirect(url)

    def _settle(self, attempt: Attempt) -> "asyncio.Task[None]":
        accepted = [one for one in attempt.permission_set_ids if one in attempt.done]
        settling = asyncio.create_task(
            self._near.verification.settle(
                attempt.account_id, attempt.tenant_id or "", accepted, seconds=self._rules.wait_seconds
            )
        )
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)
        return settling

    def _client_of(self, attempt: Attempt) -> str:
        try:
            return self._legs.next_sets(attempt)[0].client_id
        except Refused:
            return "unknown"
