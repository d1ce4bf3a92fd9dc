"""The parameters of a redirect from Entra: a stranger's text until proven otherwise."""

from collections.abc import Sequence

from consent_gateway.errors import Kind, Refused
from shared.events import canonical_tenant_id

MOST_PARAMETERS = 20
LONGEST_VALUE = 8_192


def parse(params: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The parameters by name, with a `state` among them.

    Raises:
        Refused: missing (no state); malformed (a parameter twice, too many, too long).
    """
    query = dict(params)
    if len(query) != len(params) or len(params) > MOST_PARAMETERS:
        raise Refused(Kind.MALFORMED)
    if any(len(value) > LONGEST_VALUE for value in query.values()):
        raise Refused(Kind.MALFORMED)
    if not query.get("state"):
        raise Refused(Kind.MISSING)
    return query


def claimed_tenant(query: dict[str, str]) -> str | None:
    """The tenant that the consent page claims, None where it answered with an `error`; that beats everything else.

    Raises:
        Refused: malformed, neither an error nor a well-formed success.
    """
    if "error" in query:
        if not query["error"]:
            raise Refused(Kind.MALFORMED)
        return None
    tenant_id = canonical_tenant_id(query.get("tenant", ""))
    if tenant_id is None or query.get("admin_consent", "").lower() != "true":
        raise Refused(Kind.MALFORMED)
    return tenant_id
