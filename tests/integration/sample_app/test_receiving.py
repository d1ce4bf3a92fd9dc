"""The webhook endpoint, over real HTTP."""

import json

import httpx
import pytest
import pytest_asyncio

from support.eventually import eventually
from support.sample_app_platform import CONTOSO, Sample, StartSample, new_secret, signed

FABRIKAM = {"id": "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21", "name": "Fabrikam Inc"}


@pytest_asyncio.fixture
async def sample(start_sample: StartSample) -> Sample:
    sample = await start_sample()
    await eventually(sample.ready)
    return sample


async def test_a_push_is_remembered_before_it_is_answered(sample: Sample) -> None:
    answer = await sample.push(webhook_id="a")

    assert (answer.status_code, answer.content) == (204, b"")
    (item,) = (await sample.http.get("/api/received")).json()["items"]
    assert (item["webhook_id"], item["type"], item["verified"], item["verdict"], item["app_id"]) == (
        "a",
        "permission.status_changed",
        True,
        "applied",
        "identity-security",
    )
    assert json.loads(item["body"])["data"]["tenant"] == CONTOSO
    (grant,) = (await sample.http.get("/api/grants")).json()["items"]
    assert (grant["tenant_name"], grant["status"], grant["usable"]) == ("Contoso Ltd", "granted", True)


async def test_what_is_repeated_or_late_is_answered_well_and_changes_nothing(sample: Sample) -> None:
    await sample.push(webhook_id="b", revision=2, status="blocked", usable=False, access="lost")
    answers = [
        await sample.push(webhook_id="b", revision=2),
        await sample.push(webhook_id="a", revision=1),
        await sample.push(webhook_id="c", kind="test.ping"),
        await sample.push(webhook_id="d", revision="many"),
    ]

    assert {answer.status_code for answer in answers} == {204}
    assert await sample.verdicts() == ["applied", "duplicate", "stale_revision", "noted", "unreadable"]
    (grant,) = (await sample.http.get("/api/grants")).json()["items"]
    assert (grant["status"], grant["usable"]) == ("blocked", False)


async def test_a_limited_app_reads_from_the_tenant_of_its_latest_epoch(sample: Sample) -> None:
    await sample.push(webhook_id="a", revision=5, epoch=1)
    await sample.push(webhook_id="b", revision=2, epoch=2, tenant=FABRIKAM)
    await sample.push(webhook_id="c", revision=6, epoch=1)

    assert await sample.verdicts() == ["applied", "applied", "stale_epoch"]
    grants = (await sample.http.get("/api/grants")).json()["items"]
    assert {grant["tenant_name"]: grant["usable"] for grant in grants} == {"Contoso Ltd": False, "Fabrikam Inc": True}


async def test_what_others_sign_is_refused(sample: Sample) -> None:
    forged = await sample.push(webhook_id="a", secret=new_secret())
    unsigned = await sample.http.post("/webhooks", json={"type": "test.ping"})

    assert forged.status_code == unsigned.status_code == 401
    assert forged.headers["content-type"] == "application/problem+json"
    items = (await sample.http.get("/api/received")).json()["items"]
    assert {(item["verified"], item["verdict"], item["body"], item["app_id"]) for item in items} == {
        (False, "rejected", None, None)
    }
    assert (await sample.http.get("/api/grants")).json()["items"] == []


async def test_a_refused_push_may_come_again(sample: Sample) -> None:
    """A refusal must not spend the id: the retry is the first that is accepted."""
    await sample.push(webhook_id="a", secret=new_secret())

    assert (await sample.push(webhook_id="a")).status_code == 204
    assert await sample.verdicts() == ["rejected", "applied"]


async def test_a_body_that_is_too_large_is_refused(sample: Sample) -> None:
    body = b"x" * (256 * 1024 + 1)
    secret = sample.platform.secret_of("identity-security")

    answer = await sample.http.post("/webhooks", content=body, headers=signed(secret, body, webhook_id="a"))
    assert answer.status_code == 413


async def test_a_push_that_comes_before_the_secret_is_asked_to_wait(start_sample: StartSample) -> None:
    sample = await start_sample(issuer="http://127.0.0.1:1")

    answer = await sample.push(webhook_id="a", secret=new_secret())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("mode", "status", "verdict"), [("error", 500, "fault"), ("gone", 410, "fault"), ("reject", 401, "rejected")]
)
async def test_it_fails_on_request_and_then_works_again(sample: Sample, mode: str, status: int, verdict: str) -> None:
    set_by = await sample.http.post("/faults", data={"mode": mode, "times": "1"})
    assert set_by.status_code == 303

    assert (await sample.push(webhook_id="a")).status_code == status
    assert (await sample.push(webhook_id="a")).status_code == 204
    assert await sample.verdicts() == [verdict, "applied"]


async def test_it_hangs_on_request_after_it_has_accepted(sample: Sample) -> None:
    """A sender that gives up waiting sends the push again; the app must see that it has it."""
    await sample.http.post("/faults", data={"mode": "hang", "seconds": "30", "times": "1"})
    sample.http.timeout = httpx.Timeout(0.5)
    with pytest.raises(httpx.ReadTimeout):
        await sample.push(webhook_id="a")

    assert (await sample.push(webhook_id="a")).status_code == 204
    assert await sample.verdicts() == ["applied", "duplicate"]


async def test_received_pushes_are_paged_and_filtered(sample: Sample) -> None:
    for number in range(1, 6):
        await sample.push(webhook_id=f"id-{number}", revision=number)

    first = (await sample.http.get("/api/received", params={"limit": 3})).json()
    second = (await sample.http.get("/api/received", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    found = [item["webhook_id"] for item in first["items"] + second["items"]]
    assert found == [f"id-{number}" for number in (5, 4, 3, 2, 1)]
    assert second["next_cursor"] is None
    one = (await sample.http.get("/api/received", params={"webhook_id": "id-2"})).json()
    assert len(one["items"]) == 1
    assert (await sample.http.get("/api/received", params={"limit": "many"})).status_code == 400
