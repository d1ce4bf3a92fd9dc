"""Probes, problems and the access log of every service."""

import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from pymongo.errors import AutoReconnect

from shared import logs, web
from shared.problems import Problem
from shared.settings import LogSettings


@pytest.fixture
def written() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What has been logged so far, as the objects of its JSON lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(LogSettings(level="info", format="json"), service="test")
    stream = io.StringIO()
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://x")


async def test_readiness_names_what_fails_and_liveness_does_not_care() -> None:
    async def fine() -> None: ...

    async def broken() -> None:
        raise RuntimeError("no primary")

    app = FastAPI()
    web.install(app, checks={"mongo": broken, "kafka": fine})
    async with client_of(app) as client:
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not ready", "checks": {"mongo": "no primary", "kafka": "ok"}}
        assert (await client.get("/livez")).status_code == 200
        assert "http_request_seconds" in (await client.get("/metrics")).text


async def test_readiness_leaves_out_the_checks_that_the_asker_excludes() -> None:
    async def fine() -> None: ...

    async def broken() -> None:
        raise RuntimeError("no broker")

    app = FastAPI()
    web.install(app, checks={"mongo": fine, "relay": broken, "indexes": broken})
    async with client_of(app) as client:
        one = await client.get("/readyz?exclude=relay")
        assert one.status_code == 503
        assert one.json()["checks"] == {"mongo": "ok", "indexes": "no broker"}
        both = await client.get("/readyz?exclude=relay&exclude=indexes")
        assert both.status_code == 200
        assert both.json() == {"status": "ready", "checks": {"mongo": "ok"}}


async def test_every_error_is_a_problem_and_none_shows_its_inside() -> None:
    app = FastAPI()
    web.install(app, checks={})

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("inner detail")

    @app.get("/store")
    async def store() -> None:
        raise AutoReconnect("mongo-1.internal:27017 closed")

    @app.get("/known")
    async def known() -> None:
        raise Problem(409, "conflict", "Move the app first.", tenant_id="t")

    @app.get("/number/{value}")
    async def number(value: int) -> None: ...

    async with client_of(app) as client:
        answers = {path: await client.get(path) for path in ("/bug", "/store", "/known", "/number/x", "/nowhere")}
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/bug": 500,
        "/store": 503,
        "/known": 409,
        "/number/x": 422,
        "/nowhere": 404,
    }
    assert {answer.headers["content-type"] for answer in answers.values()} == {"application/problem+json"}
    assert "inner" not in answers["/bug"].text
    assert "internal:27017" not in answers["/store"].text
    assert answers["/known"].json()["tenant_id"] == "t"


async def test_the_access_log_holds_route_templates_and_never_values(
    written: Callable[[], list[dict[str, Any]]],
) -> None:
    app = FastAPI()
    web.install(app, checks={})

    @app.get("/connect/{token}")
    async def connect(token: str) -> dict[str, str]:
        return {}

    async with client_of(app) as client:
        await client.get("/connect/s3cret-in-path?code=s3cret-in-query&state=s3cret-state")
        await client.get("/s3cret-nowhere?code=s3cret")
    lines = [line for line in written() if line["event"] == "http.request"]
    assert [(line["route"], line["status"]) for line in lines] == [("/connect/{token}", 200), ("(no route)", 404)]
    assert "s3cret" not in json.dumps(lines)


def test_a_field_that_is_named_like_a_secret_is_never_written(written: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger("x").info("tried", client_secret="s3cret", access_token="s3cret", state="s3cret", tenant="t")
    (line,) = written()
    assert "s3cret" not in json.dumps(line)
    assert (line["tenant"], line["service"], line["level"]) == ("t", "test", "info")


def test_a_library_that_repeats_itself_is_heard_once(written: Callable[[], list[dict[str, Any]]]) -> None:
    for _ in range(100):
        logging.getLogger("aiokafka.conn").error("Unable to connect to %s", "localhost")
        logging.getLogger("ours").error("said")
    events = [line["event"] for line in written()]
    assert (events.count("Unable to connect to localhost"), events.count("said")) == (1, 100)


@pytest.fixture
def posts() -> FastAPI:
    """An application that reads JSON, and asks for nothing before it has."""
    app = FastAPI()
    web.install(app, checks={}, max_body_bytes=1000)

    @app.post("/x")
    async def x(body: dict[str, str]) -> dict[str, int]:
        return {"read": len(body["text"])}

    return app


async def test_a_body_that_says_it_is_too_large_is_refused_unread(
    posts: FastAPI, written: Callable[[], list[dict[str, Any]]]
) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"x"

    async with client_of(posts) as client:
        fits = await client.post("/x", json={"text": "x" * 900})
        large = await client.post("/x", content=body(), headers={"content-length": "1001"})
        absurd = await client.post("/x", content=body(), headers={"content-length": "9" * 5000})
    assert (fits.json(), read) == ({"read": 900}, 0)
    for answer in (large, absurd):
        assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["connection"] == "close"
    assert [line["status"] for line in written() if line["event"] == "http.request"] == [200, 413, 413]


async def test_a_body_without_a_length_is_read_up_to_the_limit_and_no_further(posts: FastAPI) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 300

    async with client_of(posts) as client:
        answer = await client.post("/x", content=body(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert read < 100


@pytest.mark.parametrize("length", ["many", "-1", "1_0", "1.0", "0x10", "\u0661"])
async def test_a_length_that_is_none_is_the_callers_mistake(posts: FastAPI, length: str) -> None:
    headers = [(b"content-length", length.encode()), (b"content-type", b"application/json")]
    async with client_of(posts) as client:
        answer = await client.post("/x", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_content_length")
