"""``GET /v1/stream``: changes as server-sent events, resumed exactly from any position on any replica.

A reader is registered with the live feed first, then what it missed is read from the store, then the feed goes on; the
position, an offset per partition, tells what was in both.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import structlog
from fastapi import APIRouter, Depends, Header
from fastapi.responses import Response
from typing_extensions import override

from notifier.access import reader_of
from notifier.hub import Feed, Full, Hub, Item
from notifier.notifications import Notice
from notifier.positions import InvalidPosition, Position, decode_position
from notifier.routes import PROBLEMS, Caller
from notifier.settings import StreamSettings
from notifier.store import EventStore
from shared.auth import Principal
from shared.problems import Problem

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

BACKLOG_BATCH = 200
RETRY_MILLISECONDS = 2000
# A client that takes nothing for so long is gone, or might as well be: it resumes where it was.
SEND_SECONDS = 30.0
OPEN_SECONDS = 10.0
_EXAMPLE = {
    "example": 'event: permission.status_changed\nid: AQAAAZqx\ndata: {"type":"permission.status_changed",...}\n\n'
}
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Reader:
    """One client's way through the changes that concern its owner."""

    def __init__(self, hub: Hub, events: EventStore, feed: Feed, *, retention: timedelta, heartbeat: float) -> None:
        self._hub = hub
        self._events = events
        self._feed = feed
        self._retention = retention
        self._heartbeat = heartbeat
        self._seen: Mapping[int, int] = {}
        # Of a position that was resumed, until all after it has been read: what retention removes meanwhile is missed.
        self._at: datetime | None = None

    async def chunks(self, last_event_id: str | None) -> AsyncGenerator[bytes]:
        """What is sent, for ever, until the process is stopping."""
        resumed = await self._resumable(last_event_id)
        if resumed is not None:
            self._seen, self._at = resumed.offsets, resumed.at
        else:
            self._seen = await self._events.read_up_to()
            if last_event_id:
                yield b'event: reset\ndata: {"type":"reset"}\n' + self._id_line() + b"\n"
        yield b"retry: %d\n" % RETRY_MILLISECONDS + self._id_line() + b"\n"
        while not self._hub.closing.is_set():
            if self._feed.behind:
                await self._hub.opened()
                self._feed.catch_up()
                async for chunk in self._backlog():
                    yield chunk
                yield self._id_line() + b"\n"
            while self._feed.queue and not self._feed.behind:
                event = self._live(self._feed.queue.popleft())
                if event is not None:
                    yield event
            if not self._feed.behind and not await self._woken():
                # All that was received so far and concerns this reader has been sent.
                self._seen = _later(self._seen, self._hub.offsets)
                yield b": heartbeat\n" + self._id_line() + b"\n"

    async def _resumable(self, last_event_id: str | None) -> Position | None:
        """The position, if everything after it is still there to be read."""
        if not last_event_id:
            return None
        try:
            position = decode_position(last_event_id)
        except InvalidPosition:
            return None
        if position.at < datetime.now(UTC) - self._retention:
            return None
        known = await self._events.read_up_to()
        for partition, offset in position.offsets.items():
            # Rows are there a moment before the note of how far was read; beyond both there is nothing of ours.
            if offset > known.get(partition, -1) and offset > await self._events.last_offset(partition):
                return None
        return position

    async def _backlog(self) -> AsyncGenerator[bytes]:
        """What the store has beyond the position, partition by partition.

        Each ends with a position that holds everything that was there at the beginning: a reader whom little concerns
        must not come back to where its last event was, and have all that others were told since looked through again.
        """
        owner = self._feed.owner
        # First: what lies before these offsets can be read from here on.
        bound = _later(await self._events.read_up_to(), self._hub.offsets)
        for partition in sorted({*bound, *self._seen}):
            more = True
            while more:
                rows = await self._events.after(
                    partition,
                    self._seen.get(partition, -1),
                    app_id=owner.app_id,
                    account_id=owner.account_id,
                    limit=BACKLOG_BATCH,
                )
                for place, notice in rows:
                    self._seen = {**self._seen, place.partition: place.offset}
                    yield self._event(notice, self._id_line())
                more = len(rows) == BACKLOG_BATCH
            if self._seen.get(partition, -1) < bound.get(partition, -1):
                self._seen = {**self._seen, partition: bound[partition]}
                yield self._id_line() + b"\n"
        self._at = None

    def _live(self, item: Item) -> bytes | None:
        if item.place.offset <= self._seen.get(item.place.partition, -1):
            return None
        behind_us = all(offset <= item.offsets.get(partition, -1) for partition, offset in self._seen.items())
        if behind_us:
            self._seen = item.offsets
            return self._event(item.notice, b"id: " + item.id().encode() + b"\n")
        self._seen = _later(self._seen, item.offsets)
        return self._event(item.notice, self._id_line())

    async def _woken(self) -> bool:
        feed = self._feed
        feed.wake.clear()
        if feed.queue or feed.behind or self._hub.closing.is_set():
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat):
                await feed.wake.wait()
                return True
        return False

    def _event(self, notice: Notice, id_line: bytes) -> bytes:
        # A body is one line: JSON escapes every line break.
        body = notice.body(self._feed.owner.app_id)
        return b"event: " + notice.type.encode() + b"\n" + id_line + b"data: " + body + b"\n\n"

    def _id_line(self) -> bytes:
        return b"id: " + Position(offsets=self._seen, at=self._at or datetime.now(UTC)).encode().encode() + b"\n"


def _later(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {partition: max(one.get(partition, -1), other.get(partition, -1)) for partition in {*one, *other}}


class EventStream(Response):
    """An answer that goes on until the client leaves or stops reading, its token expires, or the process stops."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[bytes], *, seconds: float, ended: Callable[[], None]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._chunks = chunks
        self._seconds = seconds
        self._ended = ended

    @override
    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        try:
            await self._stream(receive, send)
        finally:
            self._ended()

    async def _stream(self, receive: "Receive", send: "Send") -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        left = False
        try:
            await asyncio.wait({sending, leaving}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            left = leaving.done()
        finally:
            # Also when the server ends this request: its feed must go with it.
            sending.cancel()
            leaving.cancel()
            ended, _ = await asyncio.gather(sending, leaving, return_exceptions=True)
        if isinstance(ended, Exception):
            # The client comes back to where it was; there is no way to tell it more in the middle of an answer.
            log.warning("stream.ended", error=type(ended).__name__)
        if not left and not isinstance(ended, TimeoutError | OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: "Send") -> None:
        async with aclosing(self._chunks):
            async for chunk in self._chunks:
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _left(receive: "Receive") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def router(
    hub: Hub, events: EventStore, caller: Caller, *, retention: timedelta, settings: StreamSettings
) -> APIRouter:
    """The route; ``retention`` is how long events are kept."""
    routes = APIRouter(prefix="/v1", tags=["stream"], responses=PROBLEMS)

    @routes.get(
        "/stream",
        status_code=200,
        response_class=EventStream,
        responses={200: {"content": {"text/event-stream": _EXAMPLE}}},
    )
    async def stream(
        principal: Annotated[Principal, Depends(caller)],
        last_event_id: Annotated[str | None, Header(max_length=16_384)] = None,
    ) -> EventStream:
        """Changes that concern the app of the token, or its account, as they happen.

        `Last-Event-ID` goes on exactly after that event, on any replica. Where that isn't possible any more, an
        `event: reset` comes first: read the current state anew. The stream ends when the token expires.
        """
        owner = reader_of(principal)
        try:
            feed = hub.join(owner, most=settings.connections_per_owner)
        except Full:
            detail = f"{settings.connections_per_owner} streams are open already. Close one that is no longer read."
            raise Problem(429, "too_many_streams", detail, headers={"Retry-After": "10"}) from None
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await hub.opened()
        except BaseException as error:
            hub.leave(feed)
            if not isinstance(error, TimeoutError):
                raise
            detail = "Changes can't be received at the moment. Try again shortly."
            raise Problem(503, "unavailable", detail, headers={"Retry-After": "5"}) from None
        reader = Reader(hub, events, feed, retention=retention, heartbeat=settings.heartbeat_seconds)
        seconds = principal.expires_at - datetime.now(UTC).timestamp()
        return EventStream(reader.chunks(last_event_id), seconds=max(0.0, seconds), ended=lambda: hub.leave(feed))

    return routes
