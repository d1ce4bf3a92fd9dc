"""The app keeps itself subscribed, whatever happens to it or to the notifier."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from support.eventually import eventually
from support.sample_app_platform import Platform, StartSample


async def test_it_subscribes_itself_at_start(platform: Platform, start_sample: StartSample) -> None:
    sample = await start_sample()
    await eventually(sample.ready)

    (subscription,) = platform.subscriptions.values()
    assert (subscription["app_id"], subscription["url"]) == ("identity-security", sample.settings.webhook_url)
    assert (await sample.push(webhook_id="a")).status_code == 204


async def test_restarts_do_not_pile_up_subscriptions(platform: Platform, start_sample: StartSample) -> None:
    for _ in range(3):
        sample = await start_sample()
        await eventually(sample.ready)

    assert len(platform.subscriptions) == 1
    assert "rotate-secret" not in platform.calls
    assert (await sample.push(webhook_id="a")).status_code == 204


async def test_its_subscription_is_found_on_a_later_page(platform: Platform, start_sample: StartSample) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    platform.page_size = 1
    own = platform.subscriptions.pop(next(iter(platform.subscriptions)))
    for _ in range(3):
        platform.add("identity-security", "https://another.example/webhooks")
    platform.subscriptions[own["id"]] = own

    sample = await start_sample()
    await eventually(sample.ready)
    assert len(platform.subscriptions) == 4


async def test_a_lost_secret_is_rotated(platform: Platform, start_sample: StartSample, tmp_path: Path) -> None:
    sample = await start_sample()
    await eventually(sample.ready)

    sample = await start_sample(data_dir=tmp_path / "another-disk")
    await eventually(sample.ready)
    assert len(platform.subscriptions) == 1
    assert platform.calls.count("rotate-secret") == 1
    assert (await sample.push(webhook_id="a")).status_code == 204


async def test_a_lost_subscription_is_made_again(platform: Platform, start_sample: StartSample) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    platform.subscriptions.clear()

    await eventually(lambda: _count(platform), lambda count: count == 1)
    await eventually(lambda: _verified(sample.push, "a"))


async def test_a_second_subscription_of_its_url_is_taken_away(platform: Platform, start_sample: StartSample) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    platform.add("identity-security", sample.settings.webhook_url)

    await eventually(lambda: _count(platform), lambda count: count == 1)
    assert (await sample.push(webhook_id="a")).status_code == 204
    assert "rotate-secret" not in platform.calls


async def test_a_failing_notifier_is_tried_again_for_ever(platform: Platform, start_sample: StartSample) -> None:
    platform.failing = True
    sample = await start_sample()
    await eventually(lambda: _tries(platform), lambda tries: tries >= 3)

    waiting = await sample.http.get("/readyz")
    assert waiting.status_code == 503
    assert waiting.json()["checks"]["identity-security"] == "the notifier answered 503 (no database)"
    assert (await sample.http.get("/livez")).status_code == 200
    platform.failing = False
    await eventually(sample.ready)


async def test_it_stays_ready_while_the_notifier_is_away(platform: Platform, start_sample: StartSample) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    platform.failing = True

    await eventually(lambda: _status(sample.http), lambda status: "503" in status)
    assert await sample.ready()
    platform.failing = False
    await eventually(lambda: _status(sample.http), lambda status: status == "subscribed")


async def test_a_refused_token_is_asked_for_again(platform: Platform, start_sample: StartSample) -> None:
    """The issuer has rotated its key, or lost it: the token that is kept is of no use any more."""
    platform.tokens_refused = 1
    sample = await start_sample()
    await eventually(sample.ready)

    assert platform.calls.count("token") == 2


async def test_a_wrong_client_secret_is_named(start_sample: StartSample) -> None:
    sample = await start_sample(client_secret="wrong")

    await eventually(lambda: _status(sample.http), lambda status: status == "the issuer answered 401 (wrong secret)")


async def test_a_part_that_is_not_there_is_named(start_sample: StartSample) -> None:
    sample = await start_sample(issuer="http://127.0.0.1:1")

    await eventually(lambda: _status(sample.http), lambda status: status.startswith("the issuer cannot be reached"))


async def test_what_it_missed_while_it_was_away_is_asked_for(platform: Platform, start_sample: StartSample) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    await sample.push(webhook_id="a")
    (received,) = (await sample.http.get("/api/received")).json()["items"]
    for subscription in platform.subscriptions.values():
        subscription["enabled"] = False

    sample = await start_sample()
    await eventually(sample.ready)
    (since,) = platform.recovered_since
    assert datetime.fromisoformat(since) == datetime.fromisoformat(received["received_at"]) - timedelta(days=5)


async def test_it_comes_back_even_after_events_have_been_forgotten(
    platform: Platform, start_sample: StartSample
) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    for subscription in platform.subscriptions.values():
        subscription["enabled"] = False
    platform.events_kept_since = datetime.now(UTC) - timedelta(days=1)

    sample = await start_sample()
    await eventually(sample.ready)
    assert len(platform.recovered_since) == 1


async def test_disabled_while_it_runs_it_waits_for_a_person(platform: Platform, start_sample: StartSample) -> None:
    """Somebody tries failure by hand, and wants to see the endpoint disabled."""
    sample = await start_sample()
    await eventually(sample.ready)
    for subscription in platform.subscriptions.values():
        subscription["enabled"] = False
    await eventually(lambda: _status(sample.http), lambda status: status == "disabled by the notifier")
    assert not await sample.ready()

    form = {"app_id": "identity-security", "action": "resume"}
    assert (await sample.http.post("/subscription", data=form)).status_code == 303
    await eventually(sample.ready)
    assert len(platform.recovered_since) == 1


async def test_a_secret_is_rotated_by_hand_and_the_old_one_still_verifies(
    platform: Platform, start_sample: StartSample
) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    old = platform.secret_of("identity-security")

    form = {"app_id": "identity-security", "action": "rotate"}
    assert (await sample.http.post("/subscription", data=form)).status_code == 303
    assert platform.secret_of("identity-security") != old
    assert (await sample.push(webhook_id="a")).status_code == 204
    assert (await sample.push(webhook_id="b", secret=old)).status_code == 204


async def test_it_stands_for_several_apps(platform: Platform, start_sample: StartSample) -> None:
    sample = await start_sample(app_id="identity-security,mobile-security")
    await eventually(sample.ready)

    assert {item["app_id"] for item in platform.subscriptions.values()} == {"identity-security", "mobile-security"}
    for app_id in ("identity-security", "mobile-security"):
        assert (await sample.push(webhook_id="a", app_id=app_id)).status_code == 204
    items = (await sample.http.get("/api/received")).json()["items"]
    assert [(item["app_id"], item["verdict"]) for item in items] == [
        ("mobile-security", "applied"),
        ("identity-security", "applied"),
    ]


async def _count(platform: Platform) -> int:
    return len(platform.subscriptions)


async def _tries(platform: Platform) -> int:
    return platform.calls.count("GET identity-security")


async def _status(http: httpx.AsyncClient) -> str:
    return str((await http.get("/readyz")).json()["checks"]["identity-security"])


async def _verified(push: object, webhook_id: str) -> bool:
    assert callable(push)
    return bool((await push(webhook_id=webhook_id)).status_code == 204)
