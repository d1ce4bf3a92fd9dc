"""Tells whoever watches an account that something about its tenants changed, over all replicas."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager


class Changes:
    """One change stream per process, any number of watchers. A change is a hint: the watcher reads the truth anew."""

    def watch(self, account_id: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Ids of tenants of the account that have changed since the context was entered, until it is left."""
        raise NotImplementedError
