"""What a page of the history asks for, as its address holds it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from consent_gateway.catalog.model import Catalog
from shared.events import canonical_tenant_id

# What the page has words for; the registry knows more, and shows them where nothing is filtered.
TYPES = (
    "PermissionGranted",
    "PermissionChanged",
    "PermissionBlocked",
    "PermissionRevoked",
    "TenantUpdated",
    "TenantRemoved",
    "ConsentFailed",
)
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Which entries: of the account or of one tenant; days are whole days in UTC, both included."""

    tenant_id: str | None = None
    account_id: str | None = None
    type: str | None = None
    set_id: str | None = None
    first_day: date | None = None
    last_day: date | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], catalog: Catalog, *, staff: bool) -> "Timeline":
        """From the address; what nobody knows is left out. Staff name the account of a tenant."""
        tenant_id, account_id = canonical_tenant_id(query.get("tenant", "")), query.get("account", "")
        set_id = query.get("set")
        return cls(
            tenant_id=tenant_id,
            account_id=account_id if staff and _SLUG.fullmatch(account_id) else None,
            type=query.get("type") if query.get("type") in TYPES else None,
            # A set's history is one of a tenant.
            set_id=set_id if tenant_id is not None and set_id in catalog.sets else None,
            first_day=_day(query.get("from", "")),
            last_day=_day(query.get("to", "")),
        )

    @property
    def any(self) -> bool:
        """Whether anything is filtered beside the tenant."""
        return self != Timeline(tenant_id=self.tenant_id, account_id=self.account_id)

    @property
    def asked(self) -> dict[str, str]:
        """The registry's parameters, the tenant aside."""
        asked = {
            "account_id": self.account_id,
            "type": self.type,
            "permission_set_id": self.set_id,
            "since": _midnight(self.first_day, days=0),
            "until": _midnight(self.last_day, days=1),
        }
        return {name: value for name, value in asked.items() if value}

    def address(self, path: str, **more: str) -> str:
        """The address with these filters."""
        found = {
            "tenant": self.tenant_id,
            "account": self.account_id,
            "type": self.type,
            "set": self.set_id,
            "from": self.first_day.isoformat() if self.first_day else None,
            "to": self.last_day.isoformat() if self.last_day else None,
            **more,
        }
        fields = {name: value for name, value in found.items() if value}
        return f"{path}?{urlencode(fields)}" if fields else path


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if len(value) == 10 and value[:4] > "1970" else None
    except ValueError:
        return None


def _midnight(day: date | None, *, days: int) -> str | None:
    if day is None or day >= date.max - timedelta(days=days):
        return None
    return datetime.combine(day + timedelta(days=days), time(), UTC).isoformat().replace("+00:00", "Z")
