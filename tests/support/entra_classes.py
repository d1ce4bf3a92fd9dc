"""What each class of Entra's answers leads to, written out by hand: for a person, for a grant, and for ourselves."""

from dataclasses import dataclass

from consent_gateway.consent.attempts import NextStep
from consent_gateway.entra.answers import Class
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Reason


@dataclass(frozen=True, kw_only=True)
class Leads:
    """Where an answer with this ``code`` leads.

    A person's run ends with this kind, page status and next step; the silent sign-in is tried again ``with_pages``. A
    check counts against the grant what the answer ``takes_away``, believes an API ``absent``, or ``doubts_us``; every
    other answer changes nothing. All of them are asked for again.
    """

    code: int
    ends_with: Kind
    status: int
    next_step: NextStep
    with_pages: bool = False
    choose_account: bool = False
    takes_away: Reason | None = None
    absent: bool = False
    doubts_us: bool = False

    @property
    def name(self) -> str:
        """How it is named on pages, in events and in logs."""
        return f"AADSTS{self.code}"


EVERY: dict[Class, Leads] = {
    Class.DECLINED: Leads(code=65004, ends_with=Kind.DECLINED, status=200, next_step=NextStep.TRY_AGAIN),
    Class.WAITING_FOR_APPROVAL: Leads(
        code=90095, ends_with=Kind.WAITING_FOR_APPROVAL, status=200, next_step=NextStep.ASK_ADMINISTRATOR
    ),
    Class.INTERACTION: Leads(
        code=50058, ends_with=Kind.PROOF_FAILED, status=403, next_step=NextStep.TRY_AGAIN, with_pages=True
    ),
    Class.WRONG_ACCOUNT: Leads(
        code=50020,
        ends_with=Kind.WRONG_ACCOUNT,
        status=403,
        next_step=NextStep.USE_ADMINISTRATOR,
        with_pages=True,
        choose_account=True,
    ),
    Class.PERSONAL_ACCOUNT: Leads(
        code=9001023, ends_with=Kind.PERSONAL_ACCOUNT, status=403, next_step=NextStep.USE_WORK_ACCOUNT
    ),
    Class.NOT_ADMINISTRATOR: Leads(
        code=90094, ends_with=Kind.NOT_ADMINISTRATOR, status=403, next_step=NextStep.USE_ADMINISTRATOR
    ),
    Class.BLOCKED: Leads(
        code=53003,
        ends_with=Kind.BLOCKED_BY_POLICY,
        status=403,
        next_step=NextStep.ASK_ADMINISTRATOR,
        with_pages=True,
    ),
    Class.SERVICE_MISSING: Leads(
        code=650052, ends_with=Kind.SERVICE_MISSING, status=409, next_step=NextStep.ASK_ADMINISTRATOR, absent=True
    ),
    Class.NO_CONSENT: Leads(
        code=90099,
        ends_with=Kind.NOT_CONSENTED,
        status=409,
        next_step=NextStep.TRY_AGAIN,
        with_pages=True,
        takes_away=Reason.REMOVED,
    ),
    Class.STILL_CHANGING: Leads(
        code=650051, ends_with=Kind.STILL_CHANGING, status=503, next_step=NextStep.TRY_AGAIN_LATER
    ),
    Class.REMOVED: Leads(
        code=700016,
        ends_with=Kind.NOT_CONSENTED,
        status=409,
        next_step=NextStep.TRY_AGAIN,
        takes_away=Reason.REMOVED,
    ),
    Class.DISABLED: Leads(
        code=7000112,
        ends_with=Kind.BLOCKED_BY_POLICY,
        status=403,
        next_step=NextStep.ASK_ADMINISTRATOR,
        takes_away=Reason.DISABLED,
    ),
    Class.TENANT: Leads(
        code=90002,
        ends_with=Kind.TENANT_UNKNOWN,
        status=400,
        next_step=NextStep.TRY_WITHOUT_TENANT,
        takes_away=Reason.TENANT_DELETED,
    ),
    Class.WRONG_CLOUD: Leads(code=900432, ends_with=Kind.WRONG_CLOUD, status=400, next_step=NextStep.CONTACT_SUPPORT),
    Class.REPLAY: Leads(code=54005, ends_with=Kind.PROOF_FAILED, status=403, next_step=NextStep.TRY_AGAIN),
    Class.CONFIG: Leads(
        code=650057, ends_with=Kind.MISCONFIGURED, status=502, next_step=NextStep.CONTACT_SUPPORT, doubts_us=True
    ),
    Class.OURS: Leads(
        code=7000222, ends_with=Kind.MISCONFIGURED, status=502, next_step=NextStep.CONTACT_SUPPORT, doubts_us=True
    ),
    Class.TRANSIENT: Leads(
        code=90033, ends_with=Kind.ENTRA_UNAVAILABLE, status=503, next_step=NextStep.TRY_AGAIN_LATER
    ),
    Class.UNKNOWN: Leads(
        code=424242,
        ends_with=Kind.UNKNOWN_ANSWER,
        status=502,
        next_step=NextStep.TRY_AGAIN_LATER,
        with_pages=True,
    ),
}
