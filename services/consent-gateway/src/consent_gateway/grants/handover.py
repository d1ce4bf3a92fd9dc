"""What a limited app's other tenants learn when it leaves a tenant, or comes to use another one.

``held_apps`` of a live grant always names the tenant that the app uses, with the slot's epoch.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from consent_gateway.grants.grants import Grant, with_app, without_app
from shared.events import HeldApp

if TYPE_CHECKING:
    from consent_gateway.grants.change import Change, Turn
    from consent_gateway.grants.ledger import Books


async def hand_over(books: "Books", account_id: str, app_id: str, because: "Change") -> None:
    """Let the app use the tenant that has waited for it longest, a usable one first; it stays free if none waits.

    Everybody there has consented to it, and an admin can move it. ``because`` is the change that freed it.
    """
    waiting = await books.held(account_id, app_id)
    ranked = [(_rank(turn, app_id), turn) for turn in waiting if _waits(turn, app_id)]
    if not ranked:
        return
    _, heir = min(ranked, key=lambda each: (each[0], each[1].tenant_id))
    epoch = await books.slots(account_id).take(app_id, heir.tenant_id, move=True)
    if isinstance(epoch, HeldApp):
        raise TypeError("a move always takes the slot")
    gained = [with_app(grant, app_id, epoch) for grant in _waits(heir, app_id)]
    await books.write(heir, _only(because, gained))
    await point_to(books, HeldApp(app_id=app_id, tenant_id=heir.tenant_id, epoch=epoch), account_id, because)


async def point_to(books: "Books", held: HeldApp, account_id: str, because: "Change") -> None:
    """Tell every other tenant that waits for the app which one it uses now."""
    for turn in await books.held(account_id, held.app_id):
        stale = [grant for grant in _waits(turn, held.app_id) if held not in grant.held_apps]
        if stale and turn.tenant_id != held.tenant_id:
            pointed = [without_app(grant, held) for grant in stale]
            await books.write(turn, _only(because, pointed))


def _only(because: "Change", grants: list[Grant]) -> "Change":
    """A change of these grants alone, for the same cause and by the same actor."""
    nothing: frozenset[str] = frozenset()
    return replace(because, grants=grants, accepted=nothing, reassigned=nothing, organization=None, removed=None)


def _waits(turn: "Turn", app_id: str) -> list[Grant]:
    return [
        grant for grant in turn.grants.values() if grant.live and any(held.app_id == app_id for held in grant.held_apps)
    ]


def _rank(turn: "Turn", app_id: str) -> tuple[bool, float]:
    grants = _waits(turn, app_id)
    unusable = not any(grant.usable for grant in grants)
    return unusable, min(grant.accepted_at.timestamp() for grant in grants)
