"""Transfers: who proved to administer a tenant of another account may ask for it; only its holder can give it away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from consent_gateway.consent.attempts import Attempt, Person
from consent_gateway.consent.neighbours import Verifier
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Grant
from shared.events import Actor

log = structlog.get_logger(__name__)

# The proof is fresh enough to ask for the tenant; what was asked for waits so long, and silence never transfers.
ASK_WITHIN = timedelta(minutes=10)
LIFE = timedelta(days=7)


class TransferStatus(StrEnum):
    """Where a transfer stands."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A tenant that ``to_account`` asks ``from_account`` for, by the proof of ``attempt_id``.

    ``claimant`` is the asking account's name, where its people agreed to tell it. ``permission_set_ids`` are those that
    the proof was for: what else the attempt was to ask for was neither accepted nor proven.
    """

    id: str
    tenant_id: str
    from_account: str
    to_account: str
    claimant: str | None
    permission_set_ids: tuple[str, ...]
    administrator: str
    attempt_id: str
    requested_by: str
    status: TransferStatus
    created_at: datetime
    expires_at: datetime

    def standing(self, now: datetime) -> TransferStatus:
        """The status that readers are told."""
        over = self.status is TransferStatus.PENDING and now >= self.expires_at
        return TransferStatus.EXPIRED if over else self.status


@dataclass(frozen=True, kw_only=True)
class TransferView:
    """A transfer as one of the two accounts sees it: neither learns who the other is, but for the ``claimant``."""

    id: str
    incoming: bool
    tenant_id: str
    tenant_name: str | None
    claimant: str | None
    status: TransferStatus
    created_at: datetime
    expires_at: datetime


class Attempts(Protocol):
    """Reads attempts."""

    async def get(self, attempt_id: str) -> Attempt | None:
        """The attempt."""


class Records(Protocol):
    """The transfers, and their transactions."""

    async def of_attempt(self, attempt_id: str) -> Transfer | None:
        """The transfer that an attempt asked for."""

    async def of_account(self, account_id: str, *, limit: int) -> list[Transfer]:
        """Those from and to the account, newest first."""
        raise NotImplementedError

    async def request(self, attempt: Attempt, *, person: Person, claimant: str | None, now: datetime) -> Transfer:
        """Ask the tenant's holder; the same one again where that was done."""
        raise NotImplementedError

    async def accept(
        self, transfer_id: str, account_id: str, *, actor: Actor, now: datetime, verify_until: datetime
    ) -> tuple[Transfer, tuple[Grant, ...]]:
        """Give the tenant away; returns what the other account has now."""
        raise NotImplementedError


class Labels(Protocol):
    """Reads what tenants are called."""

    async def label(self, account_id: str, tenant_id: str) -> tuple[str | None, str | None]:
        """The tenant's name and primary domain."""
        raise NotImplementedError


class Transfers:
    """Refusals change nothing."""

    def __init__(
        self,
        *,
        attempts: Attempts,
        records: Records,
        labels: Labels,
        verification: Verifier,
        verify_deadline_seconds: float,
        wait_seconds: float,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._attempts = attempts
        self._records = records
        self._labels = labels
        self._verification = verification
        self._deadline = timedelta(seconds=verify_deadline_seconds)
        self._wait = wait_seconds
        self._committed = committed
        self._clock = clock

    async def request(self, attempt_id: str, person: Person, *, tell_name: bool) -> TransferView:
        """Ask the holder of the tenant that this browser's attempt has just proven. Asking again changes nothing.

        Who comes with an access token has no browser session: they must have gone through the attempt themselves.

        Raises:
            Refused: forbidden (role); not_found, also for another session's or person's attempt; conflict, the attempt
                proved nothing of that kind, or nobody holds the tenant any more; expired, the proof is older than ten
                minutes.
        """
        if not person.may_consent:
            raise Refused(Kind.FORBIDDEN)
        attempt = await self._attempts.get(attempt_id)
        if attempt is None or attempt.account_id != person.account_id or not _own(attempt, person):
            raise Refused(Kind.NOT_FOUND)
        if attempt.failure is not Kind.TENANT_TAKEN or attempt.proven is None:
            raise Refused(Kind.CONFLICT)
        now = self._clock()
        if now - attempt.proven.at > ASK_WITHIN:
            raise Refused(Kind.EXPIRED)
        name = (person.account_name or person.account_id) if tell_name else None
        transfer = await self._records.request(attempt, person=person, claimant=name, now=now)
        log.info("transfer.requested", transfer_id=transfer.id, account_id=person.account_id, attempt_id=attempt_id)
        return (await self._views(person.account_id, [transfer]))[0]

    async def asked_by(self, attempt_id: str) -> TransferStatus | None:
        """Where the transfer stands that this attempt led to."""
        transfer = await self._records.of_attempt(attempt_id)
        return transfer.standing(self._clock()) if transfer is not None else None

    async def of_account(self, account_id: str, *, limit: int = 200) -> list[TransferView]:
        """The account's transfers, in both directions, newest first."""
        return await self._views(account_id, await self._records.of_account(account_id, limit=limit))

    async def accept(self, transfer_id: str, account_id: str, *, actor: Actor) -> TransferView:
        """Give the tenant to who asked for it: at once nobody of this account reads it. The caller checked the role.

        Raises:
            Refused: not_found, also for the account that asked; expired; conflict, the account doesn't hold the tenant
                any more, or it was given away.
        """
        now = self._clock()
        transfer, grants = await self._records.accept(
            transfer_id, account_id, actor=actor, now=now, verify_until=now + self._deadline
        )
        self._committed()
        log.info("transfer.accepted", transfer_id=transfer.id, tenant_id=transfer.tenant_id, account_id=account_id)
        sets = [grant.permission_set_id for grant in grants]
        await self._verification.settle(transfer.to_account, transfer.tenant_id, sets, seconds=self._wait)
        return (await self._views(account_id, [transfer]))[0]

    async def _views(self, account_id: str, transfers: Sequence[Transfer]) -> list[TransferView]:
        now = self._clock()
        views = []
        for one in transfers:
            incoming = one.from_account == account_id
            label = await self._labels.label(account_id, one.tenant_id) if incoming else (None, None)
            views.append(
                TransferView(
                    id=one.id,
                    incoming=incoming,
                    tenant_id=one.tenant_id,
                    tenant_name=label[0],
                    claimant=one.claimant if incoming else None,
                    status=one.standing(now),
                    created_at=one.created_at,
                    expires_at=one.expires_at,
                )
            )
        return views


def _own(attempt: Attempt, person: Person) -> bool:
    """Whether it is the attempt of this browser or, without one, of this person, who went through it.

    What an invited administrator proved is nobody's here: that person agreed to a connection, not to a transfer.
    """
    if person.session_hash:
        return attempt.session_hash == person.session_hash
    return attempt.invitation_id is None and (attempt.follower or attempt.subject) == person.subject
