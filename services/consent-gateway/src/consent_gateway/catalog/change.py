"""What another catalogue does to a grant. Pure: the grant and the catalogue in, the grant as it is then out."""

from dataclasses import replace

from consent_gateway.catalog.model import Catalog, PermissionSet
from consent_gateway.grants.grants import Entra, Grant, announced
from shared.events import Permission


def reevaluate(grant: Grant, catalog: Catalog) -> Grant:
    """The grant as the catalogue sees it; its apps are left alone, see ``apps_differ``.

    What is asked for beyond what was accepted makes an update available. What is no longer asked for isn't held
    against the grant any more, and is `extra` as long as Entra shows it. What is planned is told, and changes nothing.
    """
    grant = replace(grant, catalog_edition=catalog.edition)
    if not grant.live:
        return grant
    wanted = catalog.sets.get(grant.permission_set_id)
    if wanted is None:
        return replace(grant, asks_more=False, available_version=None, additional=(), planned=())
    required = wanted.required
    additional = tuple(permission for permission in required if permission not in grant.accepted)
    grant = replace(
        _without_dropped(grant, required, _known(catalog, wanted)),
        asks_more=bool(additional),
        available_version=wanted.version if additional else None,
        additional=additional,
        planned=announced(wanted),
    )
    if grant.entra is Entra.INCOMPLETE and not grant.missing:
        return replace(grant, entra=Entra.COMPLETE)
    return grant


def apps_differ(grant: Grant, catalog: Catalog) -> bool:
    """Whether the catalogue gives the set other apps than the grant has, or gave one of them a limit or took it."""
    if not grant.live:
        return False
    wanted = catalog.sets.get(grant.permission_set_id)
    apps = set(wanted.apps if wanted is not None else ())
    held = {one.app_id for one in grant.held_apps}
    return apps != {*grant.apps, *held} or set(catalog.limited_apps(apps)) != held | grant.app_epochs.keys()


def _without_dropped(grant: Grant, required: tuple[Permission, ...], known: frozenset[Permission]) -> Grant:
    asked = set(required)
    was_there = tuple(p for p in grant.permissions if p not in asked and p.type == "application")
    return replace(
        grant,
        accepted=_only(grant.accepted, asked),
        permissions=_only(grant.permissions, asked),
        missing=_only(grant.missing, asked),
        unverified=_only(grant.unverified, asked),
        extra=tuple(p for p in dict.fromkeys((*grant.extra, *was_there)) if p not in known),
    )


def _only(permissions: tuple[Permission, ...], asked: set[Permission]) -> tuple[Permission, ...]:
    return tuple(permission for permission in permissions if permission in asked)


def _known(catalog: Catalog, wanted: PermissionSet) -> frozenset[Permission]:
    """What any set of the same registration asks for is never extra: one Accept covers them all."""
    return frozenset(p for one in catalog.sharing_registration(wanted) for p in one.required)
