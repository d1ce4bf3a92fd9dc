"""The state of the screen, as its address holds it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode


@dataclass(frozen=True, kw_only=True)
class Location:
    """The state of the screen that its address holds: where one came from, which details are open, which tenants.

    ``after`` is the last tenant id of the page of tenants before this one.
    """

    path: str
    app_id: str | None = None
    open_details: tuple[str, ...] = ()
    adding: bool = False
    after: str | None = None

    def toggling(self, row: str) -> str:
        """The address with the details of one row opened, or closed, and the row in view."""
        still = tuple(key for key in self.open_details if key != row)
        return self._url(still if row in self.open_details else (*still, row), adding=self.adding) + f"#row-{row}"

    @property
    def add(self) -> str:
        """The address with the form of Add Tenant."""
        return self._url(self.open_details, adding=True) + "#add-tenant"

    @property
    def plain(self) -> str:
        """The address without that form."""
        return self._url(self.open_details, adding=False)

    def page_after(self, tenant_id: str | None) -> str:
        """The address of the page of tenants after this one; of the first page without one."""
        return replace(self, after=tenant_id, open_details=(), adding=False).plain

    def _url(self, open_details: Sequence[str], *, adding: bool) -> str:
        query = [("app", self.app_id)] if self.app_id else []
        query += [("after", self.after)] if self.after else []
        query += [("details", key) for key in open_details]
        query += [("add", "tenant")] if adding else []
        return f"{self.path}?{urlencode(query)}" if query else self.path
