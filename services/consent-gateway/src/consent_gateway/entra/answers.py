"""What an answer of Entra means. One table from (where it was seen, HTTP status, `error`, codes) to a class.

Microsoft: codes and texts are "subject to change at any time"; what isn't in the tables is UNKNOWN, which is tried
again and reported, and never destructive. https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from consent_gateway.catalog.model import Resource


class EntraFailed(Exception):
    """Entra gave no success; what it gave instead is in ``answer``."""

    def __init__(self, answer: "Answer") -> None:
        super().__init__(f"{answer.stage}: {answer.klass} {answer.name or ''}".strip())
        self.answer = answer


class Stage(StrEnum):
    """Where the answer was seen."""

    CONSENT = "consent"  # redirect from the admin-consent page
    SIGN_IN = "sign_in"  # redirect from the authorization endpoint
    REDEEM = "redeem"  # token endpoint, authorization code
    DISCOVERY = "discovery"
    TOKEN = "token"  # noqa: S105 - token endpoint, client credentials
    GRAPH = "graph"


class Class(StrEnum):
    """What the answer says about the world."""

    DECLINED = "declined"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    INTERACTION = "interaction"
    WRONG_ACCOUNT = "wrong_account"
    PERSONAL_ACCOUNT = "personal_account"
    NOT_ADMINISTRATOR = "not_administrator"
    BLOCKED = "blocked"
    SERVICE_MISSING = "service_missing"
    NO_CONSENT = "no_consent"
    STILL_CHANGING = "still_changing"
    REMOVED = "removed"
    DISABLED = "disabled"
    TENANT = "tenant"
    WRONG_CLOUD = "wrong_cloud"
    REPLAY = "replay"
    CONFIG = "config"
    OURS = "ours"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that isn't a success. Its description stays where it was: it may hold personal data.

    ``resource_app_id`` is the API that the tenant lacks, where the answer names one of those that were asked for.
    """

    stage: Stage
    klass: Class
    error: str | None = None
    code: int | None = None
    retry_after: float | None = None
    resource_app_id: str | None = None

    @property
    def name(self) -> str | None:
        """Entra's name for it, for pages, events and logs."""
        return f"AADSTS{self.code}" if self.code is not None else self.error


_CODES: dict[Class, tuple[int, ...]] = {
    Class.DECLINED: (65004,),
    Class.WAITING_FOR_APPROVAL: (90095,),
    Class.INTERACTION: (50058, 50076, 50079, 50125, 16001, 50072, 50074),
    Class.WRONG_ACCOUNT: (50020, 50034, 16000, 51004, 90072),
    Class.PERSONAL_ACCOUNT: (90124, 9001023),
    Class.NOT_ADMINISTRATOR: (90093, 90094),
    Class.BLOCKED: (1000031, 500212, 500213, 53003, 530032, 53000, 53001, 53002, 530035, 50105),
    Class.SERVICE_MISSING: (650052, 500011),
    Class.NO_CONSENT: (65001, 650056, 90099),
    Class.STILL_CHANGING: (650051,),
    Class.REMOVED: (700011, 700016, 7000229),
    Class.DISABLED: (7000112, 70001),
    Class.TENANT: (90002, 900023),
    Class.WRONG_CLOUD: (90038, 900382, 900432),
    Class.REPLAY: (54005, 70000, 70008, 700005, 501481),
    Class.CONFIG: (65005, 650054, 650057, 70011, 50011, 500113, 900971, 50059, 50128, 90019, 900144, 90130),
    Class.OURS: (7000215, 7000222, 70002, 7000218, 700027, 700030, 50012, 700229, 500133, 50194, 50196),
    Class.TRANSIENT: (90055, 50033, 50087, 90006, 90012, 90024, 90033, 90090),
}
BY_CODE: dict[int, Class] = {code: klass for klass, codes in _CODES.items() for code in codes}

BY_ERROR: dict[str, Class] = {
    "access_denied": Class.DECLINED,
    "permission_denied": Class.DECLINED,
    "consent_required": Class.NO_CONSENT,
    "login_required": Class.INTERACTION,
    "interaction_required": Class.INTERACTION,
    "account_selection_required": Class.INTERACTION,
    "temporarily_unavailable": Class.TRANSIENT,
    "server_error": Class.TRANSIENT,
    "invalid_tenant": Class.TENANT,
    "invalid_client": Class.OURS,
    "unauthorized_client": Class.CONFIG,
    "invalid_scope": Class.CONFIG,
    "invalid_resource": Class.CONFIG,
    "unsupported_response_type": Class.CONFIG,
}
# What the same word means elsewhere than the table above says.
BY_STAGE_AND_ERROR: dict[tuple[Stage, str], Class] = {
    # On the silent leg this asks for a page; the consent of the sign-in itself is a click.
    (Stage.SIGN_IN, "consent_required"): Class.INTERACTION,
    # The doc's example of a decline on the consent page carries this word.
    (Stage.CONSENT, "consent_required"): Class.DECLINED,
    # A personal account on a tenantless consent page: "must include a 'response_type' input parameter".
    (Stage.CONSENT, "invalid_request"): Class.PERSONAL_ACCOUNT,
    (Stage.REDEEM, "invalid_grant"): Class.REPLAY,
}
BY_STAGE_AND_CODE: dict[tuple[Stage, int], Class] = {
    (Stage.SIGN_IN, 65001): Class.INTERACTION,
}


def classify(stage: Stage, status: int | None, error: str | None, codes: Sequence[int] = ()) -> Class:
    """The class of an answer. A 429 or 5xx goes before the codes, the codes before the word."""
    # Whatever such an answer says is a matter of time; a redirect has no status.
    if status is not None and (status == 429 or status >= 500):
        return Class.TRANSIENT
    for code in codes:
        found = BY_STAGE_AND_CODE.get((stage, code)) or BY_CODE.get(code)
        if found is not None:
            return found
    if error is not None:
        found = BY_STAGE_AND_ERROR.get((stage, error)) or BY_ERROR.get(error)
        # An unknown code under a known word: only words that take nothing away may still decide.
        if found is not None and (not codes or found in _HARMLESS):
            return found
    return Class.UNKNOWN


_HARMLESS = frozenset({Class.DECLINED, Class.INTERACTION, Class.TRANSIENT, Class.OURS, Class.CONFIG})

_CODE = re.compile(r"\bAADSTS(\d{4,8})\b")
_CODE_IN_URI = re.compile(r"[?&]code=(\d{4,8})\b")


def codes_of_redirect(description: str | None, uri: str | None) -> tuple[int, ...]:
    """Entra's code in a redirect, which has no `error_codes`: from the link to its explanation, else from the text."""
    for pattern, text in ((_CODE_IN_URI, uri), (_CODE, description)):
        match = pattern.search(text) if text else None
        if match:
            return (int(match.group(1)),)
    return ()


def redirect_answer(stage: Stage, params: dict[str, str], *, resources: Iterable[Resource] = ()) -> Answer:
    """The answer that a redirect with an `error` parameter gives; ``resources`` are the APIs that were asked for."""
    codes = codes_of_redirect(params.get("error_description"), params.get("error_uri"))
    error = params["error"]
    klass = classify(stage, None, error, codes)
    if params.get("error_subcode") == "cancel":
        klass = Class.DECLINED
    missing = klass is Class.SERVICE_MISSING
    return Answer(
        stage=stage,
        klass=klass,
        error=_word(error),
        code=codes[0] if codes else None,
        resource_app_id=resource_in(params.get("error_description"), resources) if missing else None,
    )


def resource_in(description: str | None, resources: Iterable[Resource]) -> str | None:
    """App id of the one API among these that a description names, by its app id or its identifier.

    The description is a stranger's: nothing of it is kept, it only chooses among what is known.
    """
    words = set(re.split(r"[\s'\"(),;]+", description.lower())) if description else set()
    words |= {word.rstrip("./") for word in words}
    named = {one.app_id for one in resources if {one.app_id.lower(), one.identifier.lower().rstrip("/")} & words}
    return named.pop() if len(named) == 1 else None


def _word(error: str) -> str | None:
    """The `error` where it is one of the words that RFC 6749 allows; anything else came from a stranger."""
    return error if re.fullmatch(r"[a-z_]{1,40}", error) else None
