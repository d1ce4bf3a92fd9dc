"""Server-sent events over real connections: live, resumed anywhere, never twice, never lost."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from notifier.positions import Position, decode_position
from notifier.settings import StreamSettings
from support.eventually import eventually
from support.listening import Listener, listening
from support.status_events import status_event
from support.tokens import Issuer
from support.webhooks import answering

if TYPE_CHECKING:
    from shared.mongo import Database


async def _revisions(listener: Listener) -> list[int]:
    return listener.revisions()


def tenant(number: int) -> str:
    return f"8f4c1a52-6d0e-4f2b-9a31-{number:012d}"


async def test_an_app_and_an_account_follow_what_concerns_them(serve: Any, stage: Any, issuer: Issuer) -> None:
    app, account = issuer.headers("app", app_id="search"), issuer.headers("viewer", account_id="northwind")
    # Somebody of the account who came from the app: the role decides.
    person, other = issuer.headers("viewer", account_id="northwind", app_id="search"), issuer.headers("app", app_id="x")
    async with (
        serve() as served,
        listening(served.url, app) as of_app,
        listening(served.url, account) as of_account,
        listening(served.url, person) as of_person,
    ):
        before = of_app.last_event_id
        await stage.publish(
            status_event(revision=1),
            status_event(revision=2, apps=("workbench",), previous_apps=()),
            status_event(revision=3, account_id="adatum"),
            status_event(revision=4, apps=("search", "x")),
        )
        await eventually(lambda: _revisions(of_app), lambda seen: sorted(seen) == [1, 3, 4])
        for each in (of_account, of_person):
            await eventually(lambda each=each: _revisions(each), lambda seen: sorted(seen) == [1, 2, 4])  # type: ignore[misc] # a default binds the loop's variable
        # A position belongs to nobody: with another's, an app is told what is its own.
        async with listening(served.url, other, before) as of_other:
            await eventually(lambda: _revisions(of_other), lambda seen: seen == [4])
    assert of_app.headers["content-type"].startswith("text/event-stream")
    assert of_app.headers["x-accel-buffering"] == "no"
    assert of_app.headers["cache-control"] == "no-store"
    kind, event = of_app.events[0]
    assert (kind, event["type"], event["data"]["app_id"]) == ("permission.status_changed",) * 2 + ("search",)


async def test_it_goes_on_exactly_where_it_was_on_another_replica(serve: Any, stage: Any, issuer: Issuer) -> None:
    headers = issuer.headers("app", app_id="search")
    async with serve() as one:
        async with listening(one.url, headers) as first:
            await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(1, 21)])
            await eventually(lambda: _revisions(first), lambda seen: len(seen) == 20)
        # While nobody listens, and while the other replica's change stream is not even open.
        await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(21, 41)])
        async with serve() as other, listening(other.url, headers, first.last_event_id) as second:
            await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(41, 61)])
            await eventually(lambda: _revisions(second), lambda seen: len(seen) == 40)
            # Nothing comes twice: a marker of each partition arrives next.
            await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(61, 81)])
            await eventually(lambda: _revisions(second), lambda seen: len(seen) == 60)
    assert sorted(second.revisions()) == list(range(21, 81))
    assert [kind for kind, _ in second.events if kind == "reset"] == []


async def test_who_left_before_the_first_event_misses_nothing(serve: Any, stage: Any, issuer: Issuer) -> None:
    headers = issuer.headers("app", app_id="search")
    async with serve() as served:
        async with listening(served.url, headers) as first:
            pass
        await stage.publish(status_event(revision=5))
        async with listening(served.url, headers, first.last_event_id) as second:
            await eventually(lambda: _revisions(second), lambda seen: seen == [5])


async def test_a_slow_reader_is_served_from_the_store_and_misses_nothing(
    serve: Any, stage: Any, issuer: Issuer
) -> None:
    headers = issuer.headers("app", app_id="search")
    async with serve(stream=StreamSettings(queue=1)) as served, listening(served.url, headers) as listener:
        for start in range(0, 200, 50):
            events = [status_event(revision=n + 1, tenant_id=tenant(n)) for n in range(start, start + 50)]
            await stage.publish(*events)
        await eventually(lambda: _revisions(listener), lambda seen: len(seen) >= 200, within=30)
    assert sorted(listener.revisions()) == list(range(1, 201))


async def test_a_position_that_is_gone_says_so_and_goes_on_from_now(serve: Any, stage: Any, issuer: Issuer) -> None:
    headers = issuer.headers("app", app_id="search")
    long_ago = Position(offsets={0: 0}, at=datetime.now(UTC) - timedelta(days=31)).encode()
    beyond = Position(offsets={0: 10**9}, at=datetime.now(UTC)).encode()
    async with serve() as served:
        for position in (long_ago, beyond, "nonsense"):
            async with listening(served.url, headers, position) as listener:
                await stage.publish(status_event(revision=7))
                await eventually(lambda seen=listener: _revisions(seen), lambda found: 7 in found)  # type: ignore[misc] # a default binds the loop's variable
            assert listener.events[0][0] == "reset"


async def test_it_ends_with_the_token_and_beats_until_then(serve: Any, issuer: Issuer) -> None:
    async with serve(stream=StreamSettings(heartbeat_seconds=0.2)) as served:
        # Made only now: the start of the service must not use up its time.
        headers = {"Authorization": f"Bearer {issuer.token('app', app_id='search', seconds=6)}"}
        async with listening(served.url, headers) as listener:
            await eventually(lambda: _ended(listener), within=30, what="the end of the stream")
    assert "heartbeat" in listener.comments


async def _ended(listener: Listener) -> bool:
    return listener.ended


async def test_a_stopping_process_lets_its_readers_go(serve: Any, issuer: Issuer) -> None:
    headers = issuer.headers("app", app_id="search")
    async with serve() as served, listening(served.url, headers) as listener:
        served.app.state.on_exit()
        await eventually(lambda: _ended(listener), what="the end of the stream")


async def test_it_survives_the_loss_of_the_change_stream(
    serve: Any, stage: Any, issuer: Issuer, database: "Database"
) -> None:
    headers = issuer.headers("app", app_id="search")
    async with serve() as served, listening(served.url, headers) as listener:
        await stage.publish(status_event(revision=1))
        await eventually(lambda: _revisions(listener), lambda seen: seen == [1])
        # Killing its cursor ends a change stream in a way that the driver does resume; both ways lead on.
        await database.client.admin.command({"killAllSessions": []})
        await stage.publish(status_event(revision=2))
        await eventually(lambda: _revisions(listener), lambda seen: seen == [1, 2], within=30)


async def test_an_owner_has_so_many_streams_and_no_more(serve: Any, issuer: Issuer) -> None:
    headers = issuer.headers("app", app_id="search")
    async with (
        serve(stream=StreamSettings(connections_per_owner=1)) as served,
        listening(served.url, headers),
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        refused = await client.get("/v1/stream", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        assert (await client.get("/v1/stream", headers=issuer.headers("staff"))).status_code == 403
        assert (await client.get("/v1/stream")).status_code == 401


async def test_who_hears_nothing_comes_back_to_where_everybody_is(serve: Any, stage: Any, issuer: Issuer) -> None:
    """Not to the last event of its own, behind which all that others were told would be looked through again."""
    headers = issuer.headers("app", app_id="nobody")
    everybody = issuer.headers("app", app_id="search")
    async with (
        serve(stream=StreamSettings(heartbeat_seconds=0.2)) as served,
        listening(served.url, headers) as first,
        listening(served.url, everybody) as other,
    ):
        before = first.last_event_id
        await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(1, 21)])
        await eventually(lambda: _revisions(other), lambda seen: len(seen) == 20)
        # While it is connected, its heartbeats move it on.
        await eventually(lambda: _offsets(first), lambda offsets: sum(offsets.values()) == 20 - len(offsets))
    # Back after all that, it is moved on by what it is sent at first, long before a heartbeat.
    async with serve() as served, listening(served.url, headers, before) as second:
        await eventually(
            lambda: _offsets(second), lambda offsets: sum(offsets.values()) == 20 - len(offsets), within=10
        )
    assert second.events == []
    assert decode_position(second.last_event_id).at > decode_position(before).at


async def _offsets(listener: Listener) -> dict[int, int]:
    return dict(decode_position(listener.last_event_id).offsets)


async def test_an_owner_hears_in_the_stream_as_well_that_an_endpoint_was_disabled(
    serve: Any, stage: Any, issuer: Issuer
) -> None:
    headers = issuer.headers("app", app_id="search")
    endpoint = await stage.make_receiver(answering(410))
    gone = await stage.subscribe(endpoint.url, app_id="search")
    async with serve() as served:
        async with listening(served.url, headers) as live:
            before = live.last_event_id
            await stage.publish(status_event(revision=1))
            await eventually(lambda: _kinds(live), lambda kinds: "endpoint.disabled" in kinds)
        async with listening(served.url, headers, before) as resumed:
            await eventually(lambda: _kinds(resumed), lambda kinds: len(kinds) == 2)
    assert sorted(await _kinds(resumed)) == ["endpoint.disabled", "permission.status_changed"]
    told = dict(resumed.events)["endpoint.disabled"]["data"]
    assert (told["subscription_id"], told["reason"]) == (gone.id, "endpoint_gone")


async def _kinds(listener: Listener) -> list[str]:
    return [kind for kind, _ in listener.events]
