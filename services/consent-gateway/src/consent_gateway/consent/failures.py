"""Runs through Entra that failed and that nobody has put right or cleared yet, for all people of the account."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from consent_gateway.consent.attempts import Attempt, NextStep
from consent_gateway.consent.outcome import NEXT_STEPS, reference_of
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Grant

# After that a failure is no news any more; the history still has it.
SHOWN_FOR = timedelta(days=7)
# Who declined knows it, an invitation that was taken back needs nobody, and time is up whenever a window is closed.
FAILURES = frozenset(Kind) - {Kind.DECLINED, Kind.WITHDRAWN, Kind.EXPIRED, Kind.SESSION_CHANGED}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed run: why, for which sets, on which tenant if one was named or proven, and what to quote.

    The tenant has a name where it is connected to the account.
    """

    id: str
    kind: Kind
    permission_set_ids: tuple[str, ...]
    tenant_id: str | None
    error_code: str | None
    reference: str
    next_step: NextStep
    at: datetime
    tenant_name: str | None = None


class Attempts(Protocol):
    """Where failed runs are kept."""

    async def failed(
        self, account_id: str, *, kinds: Collection[str], since: datetime, limit: int = 50
    ) -> Sequence[Attempt]:
        """Those of the account that ended for one of these reasons and were not cleared, newest first."""
        raise NotImplementedError

    async def clear(self, attempt_id: str, account_id: str, *, now: datetime) -> bool:
        """Show a failed run no more; False when the account has none of this id."""
        raise NotImplementedError


class Grants(Protocol):
    """Where grants are read."""

    async def accepted_since(self, account_id: str, set_ids: Collection[str], *, since: datetime) -> Sequence[Grant]:
        """Grants of these sets, on any tenant of the account, that somebody accepted after that."""
        raise NotImplementedError

    async def names(self, account_id: str, tenant_ids: Collection[str]) -> Mapping[str, str]:
        """What tenants of the account are called, as far as it is known."""
        raise NotImplementedError


class Failures:
    """The failed runs of accounts, and Reset. Who may do what is the caller's to check."""

    def __init__(self, attempts: Attempts, grants: Grants) -> None:
        self._attempts = attempts
        self._grants = grants

    async def of_account(self, account_id: str, *, now: datetime) -> tuple[Failure, ...]:
        """Those that still say something, newest first."""
        attempts = await self._attempts.failed(account_id, kinds=FAILURES, since=now - SHOWN_FOR)
        if not attempts:
            return ()
        wanted = {set_id for attempt in attempts for set_id in attempt.remaining}
        since = min(attempt.created_at for attempt in attempts)
        found = standing(attempts, await self._grants.accepted_since(account_id, wanted, since=since))
        names = await self._grants.names(account_id, {one.tenant_id for one in found if one.tenant_id is not None})
        return tuple(replace(one, tenant_name=names.get(one.tenant_id or "")) for one in found)

    async def reset(self, failure_id: str, account_id: str, *, now: datetime) -> None:
        """Show a failure no more; the history keeps it. Doing it again changes nothing.

        Raises:
            Refused: not_found, the account has no failed run of this id.
        """
        if not await self._attempts.clear(failure_id, account_id, now=now):
            raise Refused(Kind.NOT_FOUND)


def standing(attempts: Iterable[Attempt], grants: Sequence[Grant]) -> tuple[Failure, ...]:
    """The failures that still say something: the latest of its kind each, and not where it was granted since."""
    found: dict[tuple[object, ...], Failure] = {}
    for attempt in sorted(attempts, key=lambda one: one.created_at, reverse=True):
        if attempt.failure is None or attempt.failure not in FAILURES or _granted_since(attempt, grants):
            continue
        failure = Failure(
            id=attempt.id,
            kind=attempt.failure,
            permission_set_ids=attempt.remaining,
            tenant_id=attempt.tenant_id,
            error_code=attempt.error_code,
            reference=reference_of(attempt),
            next_step=NEXT_STEPS.get(attempt.failure, NextStep.TRY_AGAIN),
            at=attempt.created_at,
        )
        found.setdefault((failure.kind, failure.permission_set_ids, failure.tenant_id), failure)
    return tuple(found.values())


def _granted_since(attempt: Attempt, grants: Sequence[Grant]) -> bool:
    since = {
        grant.permission_set_id
        for grant in grants
        if attempt.tenant_id in {None, grant.tenant_id} and grant.live and grant.accepted_at > attempt.created_at
    }
    return since.issuperset(attempt.remaining)
