"""The stream that keeps open pages current."""

from sample_app.changes import Changes


async def test_a_page_is_told_at_once_and_after_each_change() -> None:
    changes = Changes()
    stream = changes.stream()

    assert (await anext(stream)).startswith("event: changed\nid: 0\n")
    changes.announce()
    changes.announce()  # two changes while nobody looks are one reason to look
    assert (await anext(stream)).startswith("event: changed\nid: 2\n")


async def test_silence_is_filled_with_comments() -> None:
    stream = Changes().stream(heartbeat_seconds=0.01)

    await anext(stream)
    assert await anext(stream) == ": still here\n\n"


async def test_streams_end_when_the_app_stops() -> None:
    changes = Changes()
    stream = changes.stream()
    await anext(stream)
    changes.close()

    assert [event async for event in stream] == []
