"""What the admin operations refuse, and the checks that several of them share."""

from collections.abc import Iterable

from entra_sandbox.roles import TEMPLATE_IDS


class OperationError(Exception):
    """Something that cannot be done; `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def check_roles(roles: Iterable[str]) -> None:
    """Refuses names that are not those of directory roles (422)."""
    for role in roles:
        if role not in TEMPLATE_IDS:
            raise OperationError(422, f"There is no directory role {role!r}; known are {', '.join(TEMPLATE_IDS)}.")
