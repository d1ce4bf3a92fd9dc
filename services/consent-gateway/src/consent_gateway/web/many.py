"""What operators say about many tenants at once: pasted ids, and the file of the links that were made. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consent_gateway.consent.invited import InvitationView
from shared import spreadsheets
from shared.events import canonical_tenant_id

# At most so many tenants are made due for a check by one request.
MOST_CHECKED = 1_000
SHOWN_WRONG = 5
_BETWEEN = re.compile(r"[\s,;\"]+")
_COLUMNS = ("tenant_id", "tenant_name", "permission_sets", "link", "expires_at")


@dataclass(frozen=True)
class Pasted:
    """The tenant ids of a text, each once and in order, and what is none in it."""

    tenant_ids: tuple[str, ...]
    wrong: tuple[str, ...]


def pasted(text: str) -> Pasted:
    """The ids between spaces, commas and ends of lines, as a column of a spreadsheet or a list has them."""
    words = [word for word in _BETWEEN.split(text) if word]
    found = {word: canonical_tenant_id(word) for word in words}
    ids = dict.fromkeys(one for one in found.values() if one is not None)
    return Pasted(tuple(ids), tuple(word for word, one in found.items() if one is None))


def links_csv(made: Iterable[tuple[InvitationView, str]]) -> str:
    """The links as a file, a line for each tenant."""
    rows: list[Sequence[object]] = [
        (
            view.invitation.tenant_id,
            view.tenant_name,
            ", ".join(view.set_titles),
            url,
            view.invitation.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        for view, url in made
    ]
    return spreadsheets.lines([_COLUMNS, *rows])
