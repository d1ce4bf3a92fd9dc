"""Puts the app together."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware

from sample_app.changes import Changes
from sample_app.faults import Faults
from sample_app.logs import AccessLog
from sample_app.pages import Pages
from sample_app.platform_client import Notifier, Tokens
from sample_app.receiver import Receiver
from sample_app.routes import api_routes, page_routes, webhook_routes
from sample_app.settings import Settings
from sample_app.store import StoreThread
from sample_app.subscriptions import Subscriber

_logger = logging.getLogger(__name__)
_FORGET_EVERY_SECONDS = 6 * 3600


def create_app(settings: Settings, changes: Changes | None = None) -> Starlette:
    """The app as an ASGI application. Whoever stops the server may close ``changes`` first, to end open streams.

    Raises:
        OSError, sqlite3.Error: the data directory cannot be used.
    """
    changes = changes or Changes()
    store = StoreThread(settings.data_dir)
    # Proxies and CA variables of the shell are for the internet, not for the platform next door.
    http = httpx.AsyncClient(timeout=10, trust_env=False)
    tokens = Tokens(http, issuer=settings.issuer, client_secret=settings.client_secret.get_secret_value())
    subscribers = [
        Subscriber(
            Notifier(http, tokens, url=settings.notifier_url, app_id=app_id),
            store,
            app_id=app_id,
            webhook_url=settings.webhook_url,
            check_seconds=settings.check_seconds,
            announce=changes.announce,
        )
        for app_id in settings.app_ids
    ]
    faults = Faults()
    pages = Pages(settings, store, subscribers, faults)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
        tasks.append(asyncio.create_task(_forget(store, days=settings.retention_days)))
        try:
            yield
        finally:
            changes.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await http.aclose()
            store.close()

    return Starlette(
        lifespan=lifespan,
        middleware=[Middleware(AccessLog)],
        routes=[
            *webhook_routes(Receiver(store, faults, changes)),
            *api_routes(store, subscribers),
            *page_routes(pages, subscribers, faults, changes),
        ],
    )


async def _forget(store: StoreThread, *, days: int) -> None:
    """Keep the file from growing for ever."""
    while True:
        try:
            await store.run(lambda store: store.forget_before(days))
        except sqlite3.Error as error:
            _logger.warning("old pushes not forgotten", extra={"fields": {"error": type(error).__name__}})
        await asyncio.sleep(_FORGET_EVERY_SECONDS)
