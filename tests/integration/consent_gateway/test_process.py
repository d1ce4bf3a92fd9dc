"""The gateway as its operator starts it: one readable line for a wrong setting, HTTP before the database is there."""

import asyncio
import json
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from consent_gateway.__main__ import main
from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core, utc_now
from shared import logs
from shared.events import decode
from support.gateway import CONTOSO, FABRIKAM, HOME, OPERATOR
from support.gateway_process import environment, serving
from support.ledger import accepted


async def run(*arguments: str, env: Mapping[str, str]) -> tuple[int, str, str]:
    """Run to the end: status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "consent_gateway",
        *arguments,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_a_catalogue_of_the_same_version_with_another_content_refuses_to_start(
    core: Core, mongo_url: str, mongo_database: str, tmp_path: Path
) -> None:
    await core.reevaluation.start()
    env = environment(MONGO__URL=mongo_url, MONGO__DATABASE=mongo_database)
    packaged = files("consent_gateway").joinpath("catalog.yaml").read_text(encoding="utf-8")
    changed = tmp_path / "catalog.yaml"
    changed.write_text(packaged.replace("title: Read directory data", "title: Read the directory", 1))
    status, _, errors = await run(env=env | {"CATALOG__PATH": str(changed)})
    assert (status, errors.count("\n")) == (2, 1)
    assert "the catalogue's version 1 is known with another content" in errors
    status, output, _ = await run("catalog", "check", str(changed), env=env)
    assert status == 2
    assert "fault: version 1 is active with another content" in output
    changed.write_text(changed.read_text().replace("version: 1", "version: 2", 1))
    status, output, _ = await run("catalog", "check", str(changed), "--json", env=env)
    assert (status, json.loads(output)["to_version"]) == (0, 2)
    changed.write_text("version: [")
    status, _, errors = await run("catalog", "check", str(changed), env=env)
    assert (status, errors.count("\n")) == (2, 1)
    assert "is not YAML" in errors


async def test_help_names_the_commands() -> None:
    status, output, _ = await run("--help", env={})
    assert status == 0
    assert "republish" in output


async def test_a_wrong_setting_ends_the_process_with_one_line_that_names_it() -> None:
    status, _, errors = await run(env=environment(CATALOG__CLIENT_IDS="{}"))
    assert status == 2
    assert "CATALOG__CLIENT_IDS names no client id for the registration" in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"CATALOG__CLIENT_IDS": ""}, "CATALOG__CLIENT_IDS"),
        ({"CATALOG__CLIENT_IDS": "{}"}, "CATALOG__CLIENT_IDS names no client id for the registration"),
        ({"CATALOG__PATH": "/nowhere.yaml"}, "/nowhere.yaml: No such file or directory"),
        ({"ENTRA__CLIENT_SECRET": ""}, "set ENTRA__CLIENT_SECRET"),
        ({"ENTRA__LOGIN_URL": "http://login.test"}, "ENTRA__LOGIN_URL: must start with https://"),
        ({"ENTRA__GRAPH_URL": "https://graph.test/v1.0"}, "ENTRA__GRAPH_URL: must be an origin"),
        ({"ENTRA__HOME_TENANT_ID": "contoso.com"}, "ENTRA__HOME_TENANT_ID"),
        ({"ENTRA__CA_BUNDLE": "/nowhere.pem"}, "ENTRA__CA_BUNDLE: /nowhere.pem: No such file"),
        ({"ENTRA__CLIENT_CERTIFICATE_PATH": "/nowhere.pem"}, "/nowhere.pem: can't be read"),
        ({"CONSOLE__SESSION_SECRET": "short"}, "CONSOLE__SESSION_SECRET must have at least 32 characters"),
        ({"TENANT_SHARING": "sometimes"}, "TENANT_SHARING"),
        ({"AUTH__AUDIENCE": "consent-console"}, "AUTH__AUDIENCE must differ from CONSOLE__CLIENT_ID"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_line_that_names_it(
    changes: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(**changes).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["consent-gateway"])
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)  # it is this process's log
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert len(errors.strip().splitlines()) == 1


async def test_http_is_up_before_the_database_and_says_that_it_is_not_ready() -> None:
    async with serving(environment()) as client:
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["mongo"] != "ok"
        assert (await client.get("/v1/permission-sets")).status_code == 401
        assert (await client.get("/openapi.json")).status_code == 200
        assert (await client.get("/consent/callback")).status_code == 400


async def test_republish_sends_every_grant_again_as_a_snapshot(make_core: Any, mongo_url: str) -> None:
    core: Core = await make_core()
    for tenant_id in (CONTOSO, FABRIKAM):
        person = Administrator(tenant_id=tenant_id, object_id=HOME, name=None, roles=None)
        await accepted(core, person, OPERATOR, "read-directory-data", "manage-accounts", first_check_at=utc_now())
    env = environment(MONGO__URL=mongo_url, MONGO__DATABASE=core.database.name, MONGO__TIMEOUT_MS="20000")
    status, output, errors = await run("republish", env=env)
    assert (status, errors) == (0, "")
    assert output.startswith("2 tenants")
    rows = await core.database["outbox"].find({}).sort("revision", 1).to_list(None)
    events: list[Any] = [
        decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows
    ]
    again = [event for event in events if event.cause == "snapshot"]
    assert len(again) == 4
    assert {event.status for event in again} == {"verifying"}
    assert {event.previous_status for event in again} == {"verifying"}
    assert len({(event.tenant_id, event.revision) for event in events}) == 8
