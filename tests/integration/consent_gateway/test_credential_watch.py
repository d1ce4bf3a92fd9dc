"""Our own credentials in front of the sandbox: the end of each is said once by all replicas together."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from consent_gateway.core import Core, utc_now
from shared.events import CredentialExpiring, decode
from support.entra_sandbox import EntraSandbox
from support.gateway import CLIENT_IDS, SETS

CLIENT = CLIENT_IDS[SETS[0]]


async def told(core: Core) -> list[CredentialExpiring]:
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    data = [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]
    return [one for one in data if isinstance(one, CredentialExpiring)]


async def ends(entra: EntraSandbox, at: datetime) -> None:
    """Let the secret of the first registration end then."""
    (secret,) = (await entra.api("GET", f"registrations/{CLIENT}"))["secrets"]
    path = f"registrations/{CLIENT}/secrets/{secret['key_id']}"
    await entra.api("PATCH", path, expires_at=at.replace(microsecond=0).isoformat())


async def test_each_threshold_is_said_once_by_any_number_of_replicas(
    make_core: Any, entra: EntraSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = [await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca) for _ in range(3)]
    start = utc_now()
    await ends(entra, start + timedelta(days=45))
    assert sum(await asyncio.gather(*(core.credential_watch.step() for core in cores))) == 1
    (event,) = await told(cores[0])
    assert (event.registration, event.client_id, event.days_left) == (SETS[0], CLIENT, 44)
    assert event.key() == "platform:-"
    assert "sandbox-secret" not in event.model_dump_json()
    assert cores[0].credential_watch.ending_soon() == []
    # After a long gap the nearest one is said, and the one in between never.
    for core in cores:
        monkeypatch.setattr(core.credential_watch, "_clock", lambda: start + timedelta(days=40))
    assert sum(await asyncio.gather(*(core.credential_watch.step() for core in cores))) == 1
    assert [one.days_left for one in await told(cores[0])] == [44, 4]
    assert [one.client_id for one in cores[1].credential_watch.ending_soon()] == [CLIENT]
    assert sum(await asyncio.gather(*(core.credential_watch.step() for core in cores))) == 0
    value = REGISTRY.get_sample_value("entra_credential_expires_timestamp_seconds", {"client": CLIENT})
    assert value == pytest.approx((start + timedelta(days=45)).timestamp(), abs=2)


async def test_a_home_tenant_that_is_away_says_nothing(core: Core, entra: EntraSandbox) -> None:
    await ends(entra, utc_now() + timedelta(days=5))
    await entra.api("POST", "faults", kind="unavailable", endpoint="graph")
    assert await core.credential_watch.step() == 0
    assert await told(core) == []
    await entra.api("DELETE", "faults")
    assert await core.credential_watch.step() == 1


def metric() -> float | None:
    return REGISTRY.get_sample_value("entra_credential_expires_timestamp_seconds", {"client": CLIENT})


async def test_what_was_known_stands_until_something_else_is(core: Core, entra: EntraSandbox, tmp_path: Any) -> None:
    """Neither a home tenant that is away nor a file that is half written takes the warning away."""
    core.entra.credentials._directory = tmp_path
    (tmp_path / f"{CLIENT}.secret").write_text("sandbox-secret")
    end = utc_now() + timedelta(days=5)
    await ends(entra, end)

    async def warned() -> list[tuple[str, float]]:
        await core.credential_watch.step()
        return [(one.client_id, one.expires_at.timestamp()) for one in core.credential_watch.ending_soon()]

    known = [(CLIENT, float(int(end.timestamp())))]
    assert (await warned(), metric()) == (known, known[0][1])
    await entra.api("POST", "faults", kind="unavailable", endpoint="graph")
    assert (await warned(), metric()) == (known, known[0][1])
    (tmp_path / f"{CLIENT}.secret").write_text("")
    assert (await warned(), metric()) == (known, known[0][1])
    # Home answers, and tells no end: then nobody knows any more.
    await entra.api("DELETE", "faults")
    await entra.api("POST", "faults", kind="unavailable", endpoint="graph", status=403)
    (tmp_path / f"{CLIENT}.secret").write_text("sandbox-secret")
    assert (await warned(), metric()) == ([], None)


async def test_a_rotation_is_followed_without_a_restart(core: Core, entra: EntraSandbox, tmp_path: Any) -> None:
    """Entra takes the successor and refuses the old secret; the next request already goes through."""
    core.entra.credentials._directory = tmp_path
    (tmp_path / f"{CLIENT}.secret").write_text("sandbox-secret")
    (tmp_path / f"{CLIENT}.next.secret").write_text("another-secret")
    scope = core.catalog.sets[SETS[0]].resources[0].scope

    async def token() -> str:
        home = core.credential_watch._home_tenant_id
        return await core.entra.app_tokens.app_token(tenant_id=home, client_id=CLIENT, scope=scope)

    assert await token()
    (old,) = (await entra.api("GET", f"registrations/{CLIENT}"))["secrets"]
    await entra.api("POST", f"registrations/{CLIENT}/secrets", value="another-secret")
    await entra.api("DELETE", f"registrations/{CLIENT}/credentials/{old['key_id']}")
    assert await token()
    (tmp_path / f"{CLIENT}.next.secret").replace(tmp_path / f"{CLIENT}.secret")
    assert await token()
