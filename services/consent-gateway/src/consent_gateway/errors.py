"""Why the consent flow says no: a closed set of kinds, each with the HTTP status of its page."""

from enum import StrEnum


class Kind(StrEnum):
    """What happened, in one word. The console has a text for each; events and logs carry the word itself."""

    # The request is not one that can be answered; nothing was written.
    MISSING = "missing"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    USED = "used"
    MALFORMED = "malformed"
    OTHER_BROWSER = "other_browser"
    NOT_SIGNED_IN = "not_signed_in"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    # The person, or their organisation, said no or not yet.
    DECLINED = "declined"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    # The proof did not hold.
    NOT_ADMINISTRATOR = "not_administrator"
    ROLE_NOT_PROVEN = "role_not_proven"
    WRONG_ACCOUNT = "wrong_account"
    PERSONAL_ACCOUNT = "personal_account"
    OTHER_TENANT = "other_tenant"
    PROOF_FAILED = "proof_failed"
    SESSION_CHANGED = "session_changed"
    # The platform's own rules.
    TENANT_TAKEN = "tenant_taken"
    CONFLICT = "conflict"
    WITHDRAWN = "withdrawn"
    TOO_MANY = "too_many"
    # Entra answered with something else than a consent.
    TENANT_UNKNOWN = "tenant_unknown"
    WRONG_CLOUD = "wrong_cloud"
    BLOCKED_BY_POLICY = "blocked_by_policy"
    SERVICE_MISSING = "service_missing"
    NOT_CONSENTED = "not_consented"
    STILL_CHANGING = "still_changing"
    MISCONFIGURED = "misconfigured"
    ENTRA_UNAVAILABLE = "entra_unavailable"
    UNKNOWN_ANSWER = "unknown_answer"


STATUS: dict[Kind, int] = {
    Kind.MISSING: 400,
    Kind.UNKNOWN: 400,
    Kind.EXPIRED: 400,
    Kind.USED: 400,
    Kind.MALFORMED: 400,
    Kind.OTHER_BROWSER: 403,
    Kind.NOT_SIGNED_IN: 403,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.INVALID: 422,
    Kind.DECLINED: 200,
    Kind.WAITING_FOR_APPROVAL: 200,
    Kind.NOT_ADMINISTRATOR: 403,
    Kind.ROLE_NOT_PROVEN: 403,
    Kind.WRONG_ACCOUNT: 403,
    Kind.PERSONAL_ACCOUNT: 403,
    Kind.OTHER_TENANT: 409,
    Kind.PROOF_FAILED: 403,
    Kind.SESSION_CHANGED: 403,
    Kind.TENANT_TAKEN: 409,
    Kind.CONFLICT: 409,
    Kind.WITHDRAWN: 409,
    Kind.TOO_MANY: 429,
    Kind.TENANT_UNKNOWN: 400,
    Kind.WRONG_CLOUD: 400,
    Kind.BLOCKED_BY_POLICY: 403,
    Kind.SERVICE_MISSING: 409,
    Kind.NOT_CONSENTED: 409,
    Kind.STILL_CHANGING: 503,
    Kind.MISCONFIGURED: 502,
    Kind.ENTRA_UNAVAILABLE: 503,
    Kind.UNKNOWN_ANSWER: 502,
}


class Refused(Exception):
    """The request was refused and changed nothing, or ended nothing but itself.

    ``detail`` is a sentence for people that names the next step; it never repeats what the caller sent.
    """

    def __init__(self, kind: Kind, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.status = STATUS[kind]
        self.detail = detail


class CatalogError(Exception):
    """The catalogue can't be used; the message is one readable line."""
