"""What the platform does about an answer of Entra: one table from (leg, class) to a consequence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from consent_gateway.entra.answers import Class
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Reason


class Leg(StrEnum):
    """What the platform was about when the answer came."""

    CONSENT = "consent"  # a person at the admin-consent page
    SILENT = "silent"  # the proof sign-in without any page
    SIGN_IN = "sign_in"  # the proof sign-in with pages, and the redemption of its code
    CHECK = "check"  # an app-only token of a customer's tenant
    HOME = "home"  # an app-only token of our own tenant


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """What follows from an answer.

    With a person: ``ends_with`` is how the attempt ends, unless the same sign-in goes on ``with_pages``, where the
    person is to ``choose_account``. In a check: ``takes_away`` is what counts against the grant, once a fault of ours
    is excluded; ``absent`` says that the tenant lacks that API; ``doubts_us`` that our own tenant is to be asked
    first. At home: ``refuses_us`` says that it is our fault.
    """

    ends_with: Kind | None = None
    with_pages: bool = False
    choose_account: bool = False
    takes_away: Reason | None = None
    absent: bool = False
    doubts_us: bool = False
    refuses_us: bool = False


_ENDS: dict[Class, Kind] = {
    Class.DECLINED: Kind.DECLINED,
    Class.WAITING_FOR_APPROVAL: Kind.WAITING_FOR_APPROVAL,
    Class.INTERACTION: Kind.PROOF_FAILED,
    Class.WRONG_ACCOUNT: Kind.WRONG_ACCOUNT,
    Class.PERSONAL_ACCOUNT: Kind.PERSONAL_ACCOUNT,
    Class.NOT_ADMINISTRATOR: Kind.NOT_ADMINISTRATOR,
    Class.BLOCKED: Kind.BLOCKED_BY_POLICY,
    Class.SERVICE_MISSING: Kind.SERVICE_MISSING,
    Class.NO_CONSENT: Kind.NOT_CONSENTED,
    Class.STILL_CHANGING: Kind.STILL_CHANGING,
    Class.REMOVED: Kind.NOT_CONSENTED,
    Class.DISABLED: Kind.BLOCKED_BY_POLICY,
    Class.TENANT: Kind.TENANT_UNKNOWN,
    Class.WRONG_CLOUD: Kind.WRONG_CLOUD,
    Class.REPLAY: Kind.PROOF_FAILED,
    Class.CONFIG: Kind.MISCONFIGURED,
    Class.OURS: Kind.MISCONFIGURED,
    Class.TRANSIENT: Kind.ENTRA_UNAVAILABLE,
    Class.UNKNOWN: Kind.UNKNOWN_ANSWER,
}
# Without pages Entra can't ask which account, show its consent or let somebody satisfy a policy: with them it can.
_WITH_PAGES = (Class.INTERACTION, Class.WRONG_ACCOUNT, Class.NO_CONSENT, Class.BLOCKED, Class.UNKNOWN)
_CHECK: dict[Class, Consequence] = {
    Class.REMOVED: Consequence(takes_away=Reason.REMOVED),
    Class.NO_CONSENT: Consequence(takes_away=Reason.REMOVED),
    Class.DISABLED: Consequence(takes_away=Reason.DISABLED),
    Class.TENANT: Consequence(takes_away=Reason.TENANT_DELETED),
    Class.SERVICE_MISSING: Consequence(absent=True),
    Class.OURS: Consequence(doubts_us=True),
    Class.CONFIG: Consequence(doubts_us=True),
}
# What can't be the answer of a customer at home is an answer about ourselves.
_REFUSES_US = (Class.OURS, Class.CONFIG, *(one for one, what in _CHECK.items() if what.takes_away is not None))


def _consequence(leg: Leg, klass: Class) -> Consequence:
    if leg is Leg.CHECK:
        return _CHECK.get(klass, Consequence())
    if leg is Leg.HOME:
        return Consequence(refuses_us=klass in _REFUSES_US)
    ends = Consequence(ends_with=_ENDS[klass])
    if leg is Leg.SILENT and klass in _WITH_PAGES:
        return replace(ends, with_pages=True, choose_account=klass is Class.WRONG_ACCOUNT)
    return ends


CONSEQUENCE: Mapping[tuple[Leg, Class], Consequence] = {
    (leg, klass): _consequence(leg, klass) for leg in Leg for klass in Class
}


def how_it_ends(klass: Class) -> Kind:
    """How a person's attempt ends that met such an answer."""
    return _ENDS[klass]
