"""Who may read what (design of the platform, table of roles)."""

from dataclasses import dataclass

from shared.auth import Principal, require
from shared.problems import Problem, not_found


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The part of the registry that a caller sees: one account or all, and for an app only the grants that name it."""

    account_id: str | None
    app_id: str | None = None


def scope_of(principal: Principal, *, account_id: str | None = None) -> Scope:
    """What the caller sees, narrowed to an account where it asks for one.

    Staff and apps read across accounts; everybody else within the account of their token.

    Raises:
        Problem: 403 without any role that reads; 404 for another account.
    """
    require(principal, "viewer", "app", "staff")
    if principal.may("staff"):
        return Scope(account_id=account_id)
    if principal.may("viewer"):
        if account_id not in {None, principal.account_id}:
            raise not_found("account")
        return Scope(account_id=principal.account_id)
    return Scope(account_id=account_id, app_id=principal.app_id)


def require_app(scope: Scope, app_id: str) -> None:
    """Let an app ask for itself only; people may ask for any app.

    Raises:
        Problem: 403 for another app.
    """
    if scope.app_id is not None and scope.app_id != app_id:
        raise Problem(403, "forbidden", f"This token is for the app {scope.app_id}; it reads nothing of other apps.")
