"""Who can sign in: one person for each account and role, and one client for each app of the suite.

Nobody here is real. A person is named after what it may do ("Northwind operator"), and its ``sub`` is
derived from account and role, so that a token of today and one of last week mean the same person.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import NAMESPACE_URL, uuid5

_SUBJECTS = uuid5(NAMESPACE_URL, "https://visionone.example/platform-idp")


class Role(StrEnum):
    """The roles a person may hold; apps hold the role ``app`` and nothing else."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    STAFF = "staff"

    @property
    def promise(self) -> str:
        """What the role may do, in the words of the sign-in page."""
        return _PROMISES[self]


APP_ROLE = "app"

_PROMISES = {
    Role.VIEWER: "Sees tenants, permissions and history.",
    Role.OPERATOR: "Also grants permissions, invites, checks and blocks.",
    Role.ADMIN: "Also moves apps, disconnects tenants and accepts transfers.",
    Role.STAFF: "One of the suite's own people: reads across all accounts.",
}


@dataclass(frozen=True, slots=True)
class Account:
    """A customer company of the suite."""

    id: str
    name: str
    short_name: str


ACCOUNTS: Mapping[str, Account] = {
    account.id: account
    for account in (
        Account("northwind", "Northwind Traders", "Northwind"),
        Account("adatum", "Adatum Corporation", "Adatum"),
    )
}


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who signs in with one role at one account."""

    account: Account
    role: Role

    @property
    def key(self) -> str:
        """The value the sign-in form posts, for example ``northwind.operator``."""
        return f"{self.account.id}.{self.role}"

    @property
    def subject(self) -> str:
        """A GUID that never changes for this account and role."""
        return str(uuid5(_SUBJECTS, f"person:{self.key}"))

    @property
    def display_name(self) -> str:
        """The name for the ID token: a description, not a person's name."""
        if self.role is Role.STAFF:
            return f"Vision One staff ({self.account.short_name})"
        return f"{self.account.short_name} {self.role}"


def people() -> Iterator[Person]:
    """Everybody who can sign in, account by account."""
    return (Person(account, role) for account in ACCOUNTS.values() for role in Role)


def find_person(key: str) -> Person | None:
    """The person behind a value of the sign-in form, or None."""
    return next((person for person in people() if person.key == key), None)


def app_subject(app_id: str) -> str:
    """A GUID that never changes for this app."""
    return str(uuid5(_SUBJECTS, f"app:{app_id}"))
