"""Whoever asked for a check sees that it was made, also when it changed nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from consent_gateway.core import Core, utc_now
from shared.background import background
from support.entra_sandbox import EntraSandbox
from support.gateway import CLIENT_IDS, CONTOSO, OPERATOR
from support.ledger import accepted_on

SET = "read-directory-data"
MARK = "00000000-0000-0000-0000-000000000000"


async def told_of(core: Core, told: AsyncIterator[str]) -> list[str]:
    """The tenants that open pages were told of until now."""
    marked: dict[str, Any] = {"from_account": "northwind", "tenant_id": MARK}
    await core.database["transfers"].insert_one(marked)
    found = []
    async with asyncio.timeout(60):
        async for tenant_id in told:
            if tenant_id == MARK:
                break
            found.append(tenant_id)
    return found


async def test_only_a_check_that_somebody_asked_for_is_told_when_it_changed_nothing(
    core: Core, entra: EntraSandbox
) -> None:
    await entra.api("POST", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}/consent")
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    await core.verification.check("northwind", CONTOSO, {SET})
    async with core.changes.watch("northwind") as told, background(changes=core.changes.run()):
        assert await anext(told) == ""
        await told_of(core, told)
        await core.verification.check("northwind", CONTOSO, {SET})
        assert await told_of(core, told) == []
        for ask in (
            core.store.grants.check_now("northwind", CONTOSO, SET, now=utc_now()),
            core.store.grants.check_many("northwind", [CONTOSO], now=utc_now()),
        ):
            await ask
            await told_of(core, told)
            await core.verification.check("northwind", CONTOSO, {SET})
            assert await told_of(core, told) == [CONTOSO]
            await core.verification.check("northwind", CONTOSO, {SET})
            assert await told_of(core, told) == []
