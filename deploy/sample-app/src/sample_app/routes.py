"""All routes: the webhook endpoint, what was received, the page and its knobs."""

from collections.abc import Mapping
from dataclasses import asdict
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from sample_app.changes import Changes
from sample_app.faults import Faults, parse_fault
from sample_app.pages import Pages, arrival_json, asset
from sample_app.platform_client import PlatformError
from sample_app.receiver import Receiver
from sample_app.store import StoreThread
from sample_app.subscriptions import Subscriber

_MOST_ITEMS = 1_000


def webhook_routes(receiver: Receiver) -> list[Route]:
    """What the notifier calls."""

    async def webhook(request: Request) -> Response:
        return await receiver.receive(request)

    return [Route("/webhooks", webhook, methods=["POST"])]


def api_routes(store: StoreThread, subscribers: list[Subscriber]) -> list[Route]:
    """What tests and probes call."""

    async def received(request: Request) -> Response:
        """Arrivals, newest first: ``app_id`` and ``webhook_id`` filter, ``limit`` and ``cursor`` page."""
        query = request.query_params
        try:
            limit = min(max(int(query.get("limit", "100")), 1), _MOST_ITEMS)
            before = int(query["cursor"]) if "cursor" in query else None
        except ValueError:
            return JSONResponse({"status": 400, "detail": "limit and cursor must be numbers"}, 400)
        app_id, webhook_id = query.get("app_id"), query.get("webhook_id")
        arrivals = await store.run(
            lambda store: store.arrivals(limit=limit, before=before, app_id=app_id, webhook_id=webhook_id)
        )
        more = str(arrivals[-1].seq) if len(arrivals) == limit else None
        return JSONResponse({"items": [arrival_json(arrival) for arrival in arrivals], "next_cursor": more})

    async def grants(_request: Request) -> Response:
        rows = await store.run(lambda store: store.grants())
        return JSONResponse({"items": [asdict(row) for row in rows], "next_cursor": None})

    async def livez(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        ready = all(subscriber.ready for subscriber in subscribers)
        checks = {subscriber.app_id: subscriber.status for subscriber in subscribers}
        return JSONResponse({"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503)

    return [
        Route("/api/received", received),
        Route("/api/grants", grants),
        Route("/livez", livez),
        Route("/readyz", readyz),
    ]


def page_routes(pages: Pages, subscribers: list[Subscriber], faults: Faults, changes: Changes) -> list[Route]:
    """What a browser calls."""
    by_app = {subscriber.app_id: subscriber for subscriber in subscribers}

    async def index(_request: Request) -> Response:
        return await pages.page()

    async def live(_request: Request) -> Response:
        return await pages.live_part()

    async def events(_request: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(changes.stream(), media_type="text/event-stream", headers=headers)

    async def set_fault(request: Request) -> Response:
        if not _is_own_page(request):
            return await pages.page(notice="That form was sent by another site.", status=403)
        try:
            faults.set(parse_fault(await _form(request)))
        except ValueError as error:
            return await pages.page(notice=f"Nothing was changed: {error}.", status=400)
        return RedirectResponse("/", 303)

    async def act(request: Request) -> Response:
        if not _is_own_page(request):
            return await pages.page(notice="That form was sent by another site.", status=403)
        form = await _form(request)
        subscriber = by_app.get(form.get("app_id", ""))
        if subscriber is None:
            return await pages.page(notice="This process does not stand for that app.", status=404)
        try:
            await _act(subscriber, form)
        except (PlatformError, ValueError) as error:
            return await pages.page(notice=f"That did not work: {error}.", status=502)
        return RedirectResponse("/", 303)

    async def no_icon(_request: Request) -> Response:
        return Response(status_code=204)

    async def style(_request: Request) -> Response:
        return Response(asset("style.css"), media_type="text/css")

    async def script(_request: Request) -> Response:
        return Response(asset("live.js"), media_type="text/javascript")

    return [
        Route("/", index),
        Route("/live", live),
        Route("/events", events),
        Route("/faults", set_fault, methods=["POST"]),
        Route("/subscription", act, methods=["POST"]),
        Route("/style.css", style),
        Route("/favicon.ico", no_icon),
        Route("/live.js", script),
    ]


async def _act(subscriber: Subscriber, form: Mapping[str, str]) -> None:
    match form.get("action"):
        case "ping":
            await subscriber.ping()
        case "rotate":
            await subscriber.rotate()
        case "resume":
            await subscriber.resume()
        case _:
            raise ValueError("action must be ping, rotate or resume")


async def _form(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl((await request.body()).decode("ascii"), max_num_fields=20))
    except ValueError:
        return {}


def _is_own_page(request: Request) -> bool:
    """Whether a form was posted from this app's own page; programs that send no Origin may post too."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
