"""The gateway's console in front of a registry that it really asks: both in this process, on one mongod."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from unittest.mock import patch

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from consent_gateway.core import Core
from consent_gateway.web.security import FormTargets
from shared import mongo
from shared.settings import MongoSettings
from support import gateway, gateway_site, registry_api
from support.eventually import eventually
from support.gateway_site import Site, Visit
from tenant_registry.fleet import Fleet
from tenant_registry.store import Store


@dataclass
class FleetSite:
    """The gateway's application, the registry's store, and where the registry is served."""

    site: Site
    registry: Store
    registry_url: str

    @property
    def core(self) -> Core:
        """The gateway's core."""
        core: Core = self.site.app.state.core
        return core

    async def visit(self, role: str = "operator", account_id: str = "northwind", *more: str) -> Visit:
        """A browser of a person whose access token is one that the registry takes too."""
        token = registry_api.token(role, account_id=account_id)
        return await self.site.signed_in(account_id, role, *more, access_token=token)


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The application on a free port; its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started, what="a served application")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def _nowhere(_: FormTargets) -> list[str]:
    return []


@asynccontextmanager
async def fleet_site(*, mongo_url: str, database: str) -> AsyncIterator[FleetSite]:
    """A gateway and its registry. The registry's collections have a database of their own, dropped at the end."""
    settings = MongoSettings(url=SecretStr(mongo_url), database=f"{database}_registry")
    async with AsyncExitStack() as stack:
        documents = mongo.connect(settings)
        stack.push_async_callback(mongo.close, documents)
        stack.push_async_callback(documents.client.drop_database, documents.name)
        fleet = Fleet(documents, clock=lambda: datetime.now(UTC))
        stack.push_async_callback(fleet.close)
        registry = Store(documents)
        await registry.create_indexes()
        url = await stack.enter_async_context(served(registry_api.registry_app(documents, fleet)))
        chosen = gateway.settings(mongo_url=mongo_url, database=database, wait_seconds=0)
        core = Core.of(chosen)
        await stack.enter_async_context(core.open())
        await core.store.create_indexes()
        asked = chosen.model_copy(update={"registry_url": url})
        # Where forms may lead to is asked of an issuer and an Entra that aren't there.
        stack.enter_context(patch.object(FormTargets, "__call__", _nowhere))
        site = await stack.enter_async_context(gateway_site.site(asked, core.database))
        yield FleetSite(site, registry, url)
