"""The use cases of invitations: made and watched by operators, followed by somebody who is an administrator in Entra.

The order is reversed: first the invited person proves who they are, then a page names the tenant and the account, and
only its form uses the link. A tenant that the operator did not name is connected when an operator confirms it.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Attempt, Browser, Leg, Phase, Requester
from consent_gateway.consent.invited import Asking, Invitation, InvitationStatus, InvitationView
from consent_gateway.consent.legs import Legs, hashed
from consent_gateway.consent.neighbours import Attempts
from consent_gateway.consent.starts import MOST_OPEN, Starts
from consent_gateway.entra.answers import EntraFailed
from consent_gateway.entra.consequences import how_it_ends
from consent_gateway.errors import Kind, Refused
from consent_gateway.people import administrator_id, user_id

log = structlog.get_logger(__name__)

LIFE = timedelta(days=7)
MOST_PENDING = 1_000
# Made at once.
MOST_TOGETHER = 200


class Store(Protocol):
    """Where invitations are."""

    async def insert(self, invitations: Sequence[tuple[Invitation, str]]) -> None:
        """Keep new invitations, each with the hash of its token."""

    async def open_of(self, account_id: str, *, now: datetime) -> int:
        """How many of the account's invitations wait to be opened."""
        raise NotImplementedError

    async def of_token(self, token_hash: str) -> Invitation | None:
        """The invitation of a link."""

    async def get(self, account_id: str, invitation_id: str) -> Invitation | None:
        """An invitation of the account."""

    async def of_account(self, account_id: str, *, limit: int, before: str | None) -> list[Invitation]:
        """The account's invitations, newest first."""
        raise NotImplementedError


class Records(Protocol):
    """The transactions of invitations."""

    async def consume(self, attempt: Attempt, *, leg: Leg, expires_at: datetime, now: datetime) -> bool:
        """Use the link for this run; False when either is over."""
        raise NotImplementedError

    async def revoke(self, account_id: str, invitation_id: str) -> bool:
        """Take an invitation back; False when there is nothing to take back."""
        raise NotImplementedError


class Names(Protocol):
    """Names of people and tenants, for pages."""

    async def names(self, person_ids: Sequence[str]) -> dict[str, str]:
        """The names that are known, by id."""
        raise NotImplementedError

    async def remember(self, person_id: str, name: str | None) -> None:
        """Keep a person's latest name."""


class Labels(Protocol):
    """Reads what tenants are called."""

    async def label(self, account_id: str, tenant_id: str) -> tuple[str | None, str | None]:
        """The tenant's name and primary domain."""
        raise NotImplementedError


class Invitations:
    """Refusals change nothing."""

    def __init__(
        self,
        catalog: Catalog,
        starts: Starts,
        legs: Legs,
        *,
        store: Store,
        records: Records,
        attempts: Attempts,
        people: Names,
        labels: Labels,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._catalog = catalog
        self._starts = starts
        self._legs = legs
        self._rules = legs.rules
        self._store = store
        self._records = records
        self._attempts = attempts
        self._people = people
        self._labels = labels
        self._committed = committed
        self._clock = clock

    async def create(
        self,
        requester: Requester,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        name: str | None = None,
    ) -> tuple[InvitationView, str]:
        """A new invitation, and its link, which is shown this once. The caller has checked the requester's role.

        ``name`` is that of the inviting person, where it is known; the invited one reads it.

        Raises:
            Refused: invalid (an unknown set), malformed (tenant id), too_many (invitations wait to be opened).
        """
        made = await self._create(requester, permission_set_ids, [self._starts.named_tenant(tenant_id)], name)
        return made[0]

    async def create_many(
        self,
        requester: Requester,
        *,
        permission_set_ids: Sequence[str],
        tenant_ids: Sequence[str],
        name: str | None = None,
    ) -> list[tuple[InvitationView, str]]:
        """An invitation for each of the tenants, in their order; all of them are made, or none. As ``create``.

        Raises:
            Refused: as ``create``; invalid, also for no tenant, or for more than ``MOST_TOGETHER``.
        """
        named = list(dict.fromkeys(self._starts.named_tenant(tenant_id) for tenant_id in tenant_ids))
        if not named or None in named or len(named) > MOST_TOGETHER:
            raise Refused(Kind.INVALID, f"Name at least one tenant, and at most {MOST_TOGETHER} at once.")
        return await self._create(requester, permission_set_ids, named, name)

    async def _create(
        self, requester: Requester, permission_set_ids: Sequence[str], tenants: Sequence[str | None], name: str | None
    ) -> list[tuple[InvitationView, str]]:
        wanted = self._starts.wanted(permission_set_ids)
        now = self._clock()
        if await self._store.open_of(requester.account_id, now=now) + len(tenants) > MOST_PENDING:
            raise Refused(Kind.TOO_MANY, "Revoke invitations that nobody needs any more, or wait until they expire.")
        invitations = [
            Invitation(
                # Ids sort by time: lists are read newest first.
                id=f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}",
                account_id=requester.account_id,
                account_name=requester.account_name,
                created_by=requester.subject,
                permission_set_ids=wanted,
                tenant_id=tenant_id,
                status=InvitationStatus.PENDING,
                created_at=now,
                expires_at=now + LIFE,
            )
            for tenant_id in tenants
        ]
        tokens = [secrets.token_urlsafe(32) for _ in invitations]
        await self._people.remember(user_id(requester.account_id, requester.subject), name)
        await self._store.insert([(one, hashed(token)) for one, token in zip(invitations, tokens, strict=True)])
        log.info("invitation.created", account_id=requester.account_id, invitation_ids=[one.id for one in invitations])
        links = [f"{self._rules.public_url}/invite/{token}" for token in tokens]
        return list(zip(await self._views(invitations), links, strict=True))

    async def of_account(self, account_id: str, *, limit: int, before: str | None = None) -> list[InvitationView]:
        """The account's invitations, newest first; ``before`` is the last id of the page before."""
        return await self._views(await self._store.of_account(account_id, limit=limit, before=before))

    async def get(self, account_id: str, invitation_id: str) -> InvitationView:
        """One invitation of the account.

        Raises:
            Refused: not_found.
        """
        invitation = await self._store.get(account_id, invitation_id)
        if invitation is None:
            raise Refused(Kind.NOT_FOUND, "There is no such invitation.")
        return (await self._views([invitation]))[0]

    async def revoke(self, account_id: str, invitation_id: str) -> None:
        """Let nobody use it any more, and end a run that does. Doing it again changes nothing.

        Raises:
            Refused: not_found; conflict, it has been used to the end: disconnect the tenant instead.
        """
        view = await self.get(account_id, invitation_id)
        if await self._records.revoke(account_id, invitation_id):
            self._committed()
            log.info("invitation.revoked", invitation_id=invitation_id, account_id=account_id)
        elif view.invitation.status is InvitationStatus.SUCCEEDED:
            raise Refused(Kind.CONFLICT, "It was used. To take the access back, disconnect the tenant.")

    async def open(self, token: str, *, guest: str | None) -> Asking:
        """What the page of a link asks the person who holds it. Changes nothing.

        ``guest`` names the browser's session of an invitation: it is asked about the tenant once it has proven one.

        Raises:
            Refused: unknown, withdrawn, expired, used.
        """
        invitation = await self._open(token)
        attempt = await self._attempts.awaiting_yes(guest, now=self._clock()) if guest is not None else None
        proven = attempt.proven if attempt is not None and attempt.invitation_id == invitation.id else None
        inviter = user_id(invitation.account_id, invitation.created_by)
        ids = [inviter, *([administrator_id(proven.tenant_id, proven.object_id)] if proven is not None else [])]
        names = await self._people.names(ids)
        return Asking(
            invitation=invitation,
            inviter=names.get(inviter),
            proven=proven,
            administrator=names.get(ids[-1]) if proven is not None else None,
        )

    async def begin(self, token: str, *, guest: str, browser: Browser | None = None) -> str:
        """Have this browser prove who is in front of it. The link is not used by that. Returns where to send it.

        Raises:
            Refused: as ``open``; too_many; or Entra can't be asked.
        """
        invitation = await self._open(token)
        now = self._clock()
        if await self._attempts.open_of_invitation(invitation.id, now=now) >= MOST_OPEN:
            raise Refused(Kind.TOO_MANY, "Too many people follow this link at once. Try again in a few minutes.")
        attempt = self._starts.invited(invitation, guest=guest)
        try:
            url, leg = await self._legs.proof(attempt, invitation.tenant_id, silent=False, choose_account=True)
        except EntraFailed as failed:
            raise Refused(how_it_ends(failed.answer.klass)) from None
        await self._attempts.insert(replace(attempt, phase=Phase.PROOF, leg=leg, started_from=browser))
        return url

    async def connect(self, token: str, *, guest: str) -> str:
        """The yes of the invited person: uses the link, once. Returns where Entra asks for the consent.

        Raises:
            Refused: as ``open``; unknown, this browser has proven nothing for this link.
        """
        invitation = await self._open(token)
        now = self._clock()
        attempt = await self._attempts.awaiting_yes(guest, now=now)
        if attempt is None or attempt.invitation_id != invitation.id:
            raise Refused(Kind.UNKNOWN)
        url, leg = await self._legs.consent(attempt)
        expires_at = now + timedelta(seconds=self._rules.attempt_seconds)
        if not await self._records.consume(attempt, leg=leg, expires_at=expires_at, now=now):
            raise Refused(Kind.USED)
        log.info("invitation.opened", invitation_id=invitation.id, attempt_id=attempt.id, tenant_id=attempt.tenant_id)
        return url

    async def _open(self, token: str) -> Invitation:
        invitation = await self._store.of_token(hashed(token))
        if invitation is None:
            raise Refused(Kind.UNKNOWN)
        standing = invitation.standing(self._clock())
        if standing is not InvitationStatus.PENDING:
            ends = {InvitationStatus.REVOKED: Kind.WITHDRAWN, InvitationStatus.EXPIRED: Kind.EXPIRED}
            raise Refused(ends.get(standing, Kind.USED))
        return invitation

    async def _views(self, invitations: Sequence[Invitation]) -> list[InvitationView]:
        now = self._clock()
        ids = [user_id(one.account_id, one.created_by) for one in invitations]
        ids += [administrator_id(one.proven.tenant_id, one.proven.object_id) for one in invitations if one.proven]
        names = await self._people.names(ids) if ids else {}
        views = []
        for one in invitations:
            tenant_id = one.proven.tenant_id if one.proven is not None else one.tenant_id
            label = await self._labels.label(one.account_id, tenant_id) if tenant_id is not None else (None, None)
            views.append(
                InvitationView(
                    invitation=one,
                    status=one.standing(now),
                    set_titles=tuple(self._title(set_id) for set_id in one.permission_set_ids),
                    inviter=names.get(user_id(one.account_id, one.created_by)),
                    administrator=names.get(administrator_id(one.proven.tenant_id, one.proven.object_id))
                    if one.proven is not None
                    else None,
                    tenant_name=label[0],
                )
            )
        return views

    def _title(self, set_id: str) -> str:
        permission_set = self._catalog.sets.get(set_id)
        return permission_set.title if permission_set is not None else set_id
