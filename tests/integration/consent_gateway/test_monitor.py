"""The monitor on several replicas, and what is left by a process that died between its two commits."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core, utc_now
from consent_gateway.grants.grants import Status
from shared.background import background
from support.entra_sandbox import EntraSandbox
from support.eventually import eventually
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, OPERATOR
from support.ledger import accepted

SET = "read-directory-data"


async def committed(core: Core, tenant_id: str) -> None:
    """A consent whose process died right after its first commit."""
    person = Administrator(tenant_id=tenant_id, object_id="6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22", name=None, roles=None)
    await accepted(core, person, OPERATOR, SET, first_check_at=utc_now())


async def statuses(core: Core) -> dict[str, Status]:
    tenants = await core.store.grants.grants_of("northwind")
    return {grant.tenant_id: grant.status for tenant in tenants for grant in tenant.grants}


async def test_a_crash_between_the_commits_loses_nothing(make_core: Any, entra: EntraSandbox) -> None:
    cores = [await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca) for _ in range(2)]
    for tenant_id in (CONTOSO, FABRIKAM):
        await entra.api("POST", f"tenants/{tenant_id}/apps/{CLIENT_IDS[SET]}/consent")
        await committed(cores[0], tenant_id)
    async with AsyncExitStack() as stack:
        for core in cores:
            await stack.enter_async_context(background(monitor=core.monitor.run()))

        async def seen() -> dict[str, Status]:
            return await statuses(cores[0])

        await eventually(seen, lambda found: set(found.values()) == {Status.GRANTED}, within=20, what="grants")
    rows = await cores[0].database["outbox"].count_documents({})
    assert rows == 4
    leases = [grant["check"]["lease"] async for grant in cores[0].database["grants"].find({})]
    assert leases == [None, None]


async def test_a_tenant_that_hangs_does_not_hold_up_the_others(make_core: Any, entra: EntraSandbox) -> None:
    core = await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca)
    for tenant_id in (CONTOSO, FABRIKAM):
        await entra.api("POST", f"tenants/{tenant_id}/apps/{CLIENT_IDS[SET]}/consent")
        await committed(core, tenant_id)
    await entra.api("POST", "faults", kind="hang", endpoint="token", tenant_id=CONTOSO, seconds=30)
    async with background(monitor=core.monitor.run()):

        async def fabrikam() -> Status:
            return (await statuses(core))[FABRIKAM]

        await eventually(fabrikam, lambda status: status is Status.GRANTED, within=4, what="the other tenant")
        assert (await statuses(core))[CONTOSO] is Status.VERIFYING


async def test_checks_of_one_tenant_wait_for_each_other_and_ask_anew(make_core: Any, entra: EntraSandbox) -> None:
    core = await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca)
    await entra.api("POST", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}/consent")
    await committed(core, CONTOSO)
    await asyncio.gather(*(core.verification.check("northwind", CONTOSO, {SET}) for _ in range(5)))
    assert await core.database["outbox"].count_documents({}) == 2
    (grant,) = await core.store.grants.grants_on("northwind", CONTOSO)
    assert grant.health.next_at is not None
    assert grant.health.next_at > utc_now() + timedelta(minutes=30)
