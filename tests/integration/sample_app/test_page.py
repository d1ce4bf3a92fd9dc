"""The page: what it shows, how it changes by itself, and who may use its knobs."""

import asyncio

import pytest_asyncio

from support.eventually import eventually
from support.sample_app_platform import Sample, StartSample


@pytest_asyncio.fixture
async def sample(start_sample: StartSample) -> Sample:
    sample = await start_sample(gateway_url="http://console.example", app_id="identity-security,search")
    await eventually(sample.ready)
    return sample


async def test_the_page_shows_tenants_and_pushes_without_a_script(sample: Sample) -> None:
    await sample.push(webhook_id="the-push", missing=[{"resource_app_id": "r", "value": "User.Read", "type": "x"}])
    page = await sample.http.get("/")

    for expected in ("Contoso Ltd", "read-directory-data", "the-push", "applied", "missing User.Read", "subscribed"):
        assert expected in page.text
    assert 'href="http://console.example/integrations/microsoft-entra-id?app=identity-security"' in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]


async def test_names_of_tenants_are_not_markup(sample: Sample) -> None:
    await sample.push(webhook_id="<i>", tenant={"id": "t", "name": "<script>alert(1)</script>"})

    for path in ("/", "/live"):
        text = (await sample.http.get(path)).text
        assert "<script>alert" not in text
        assert "<i>" not in text


async def test_an_open_page_is_told_of_a_push(sample: Sample) -> None:
    async with sample.http.stream("GET", "/events") as stream, asyncio.timeout(60):
        lines = stream.aiter_lines()
        assert await anext(lines) == "event: changed"
        first = await anext(lines)
        await sample.push(webhook_id="a")
        while True:
            line = await anext(lines)
            if line.startswith("id: ") and line != first:
                break
    assert "Contoso Ltd" in (await sample.http.get("/live")).text


async def test_other_sites_cannot_turn_the_knobs(sample: Sample) -> None:
    evil = {"Origin": "https://evil.example"}
    fault = await sample.http.post("/faults", data={"mode": "gone"}, headers=evil)
    act = await sample.http.post("/subscription", data={"app_id": "search", "action": "rotate"}, headers=evil)

    assert fault.status_code == act.status_code == 403
    assert (await sample.push(webhook_id="a")).status_code == 204
    assert "rotate-secret" not in sample.platform.calls


async def test_own_forms_are_taken_and_wrong_ones_are_explained(sample: Sample) -> None:
    own = {"Origin": str(sample.http.base_url).rstrip("/")}
    assert (await sample.http.post("/faults", data={"mode": "none"}, headers=own)).status_code == 303
    ping = await sample.http.post("/subscription", data={"app_id": "search", "action": "ping"}, headers=own)
    assert ping.status_code == 303
    assert "test" in sample.platform.calls

    wrong = await sample.http.post("/faults", data={"mode": "explode"})
    assert (wrong.status_code, "mode must be one of" in wrong.text) == (400, True)
    assert (await sample.http.post("/subscription", data={"app_id": "workbench", "action": "ping"})).status_code == 404
    sample.platform.failing = True
    failed = await sample.http.post("/subscription", data={"app_id": "search", "action": "ping"})
    assert (failed.status_code, "no database" in failed.text) == (502, True)


async def test_assets_have_their_types(sample: Sample) -> None:
    assert (await sample.http.get("/style.css")).headers["content-type"].startswith("text/css")
    assert (await sample.http.get("/live.js")).headers["content-type"].startswith("text/javascript")
