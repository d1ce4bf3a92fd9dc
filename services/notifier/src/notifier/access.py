"""Whose subscriptions, deliveries and changes a caller may see: an app's own, or those of the caller's account."""

from notifier.subscriptions import Owner
from shared.auth import Principal
from shared.problems import Problem


def owner_of(principal: Principal) -> Owner:
    """The owner that the caller speaks for: the app of an app's token, else the account of an administrator's.

    Raises:
        Problem: 403 when it is neither.
    """
    if principal.may("app") and principal.app_id is not None:
        return Owner(app_id=principal.app_id)
    if principal.may("admin") and principal.account_id is not None:
        return Owner(account_id=principal.account_id)
    raise Problem(403, "forbidden", "This needs the role app, for an app's subscriptions, or admin, for an account's.")


def reader_of(principal: Principal) -> Owner:
    """As ``owner_of``, but whoever may read in an account may follow its changes."""
    if principal.may("app") and principal.app_id is not None:
        return Owner(app_id=principal.app_id)
    if principal.may("viewer") and principal.account_id is not None:
        return Owner(account_id=principal.account_id)
    raise Problem(403, "forbidden", "This needs the role app or viewer.")
