"""The portal's addresses, and the one route of the API that leads there."""

from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from notifier.deliveries import Status
from notifier.delivery_routes import DeliveryId
from notifier.portal import HEADERS, Portal, PortalLink
from notifier.portal_sessions import Session
from notifier.routes import PROBLEMS, Caller, SubscriptionId, owner_dependency
from notifier.subscriptions import Owner
from shared.problems import Problem

Token = Annotated[str, Path(max_length=100)]


def router(portal: Portal, caller: Caller) -> APIRouter:
    """The API's one route, and the pages."""
    routes = APIRouter()
    mine = Annotated[Owner, Depends(owner_dependency(caller))]

    @routes.post("/v1/portal-links", status_code=201, tags=["portal"], responses=PROBLEMS)
    async def create_portal_link(owner: mine, response: Response) -> PortalLink:
        """A link that signs a browser in at the portal, for the caller's app or account. Open it; pass it to nobody."""
        response.headers["Cache-Control"] = "no-store"
        return await portal.link(owner)

    _add_pages(routes, portal)
    return routes


def _add_pages(routes: APIRouter, portal: Portal) -> None:
    style = (FilePath(__file__).parent / "static" / "portal.css").read_bytes()

    async def seen(request: Request, show: Callable[[Session], Awaitable[Response]]) -> Response:
        session = await portal.session(request)
        if session is None:
            text = "Ask the API for a link: POST /v1/portal-links with your token, and open what it answers."
            return portal.message(401, "You are not signed in", text)
        if request.method == "POST" and not await portal.is_ours(request, session):
            return portal.foreign()
        try:
            return await show(session)
        except Problem as problem:
            return portal.message(problem.status, "That can't be shown", problem.detail)

    def page(path: str, method: str = "GET") -> Callable[..., Any]:
        return routes.api_route(f"/portal{path}", methods=[method], include_in_schema=False, response_model=None)

    @page("/style.css")
    async def styles() -> Response:
        return Response(style, media_type="text/css", headers={**HEADERS, "Cache-Control": "max-age=3600"})

    @page("/open/{token}")
    async def ask(token: Token) -> Response:  # noqa: ARG001 - it stays in the address, where the form sends it
        return portal.render("open.html", None, title="Open the portal")

    @page("/open/{token}", "POST")
    async def sign_in(request: Request, token: Token) -> Response:
        return await portal.sign_in(request, token)

    @page("/sign-out", "POST")
    async def sign_out(request: Request) -> Response:
        return await seen(request, portal.sign_out)

    @page("")
    async def endpoints(request: Request) -> Response:
        return await seen(request, portal.endpoints)

    @page("/subscriptions/{subscription_id}")
    async def endpoint(
        request: Request,
        subscription_id: SubscriptionId,
        status: Annotated[Status | None, Query()] = None,
        cursor: Annotated[str | None, Query(max_length=500)] = None,
    ) -> Response:
        return await seen(request, lambda s: portal.endpoint(s, subscription_id, status=status, cursor=cursor))

    @page("/deliveries/{delivery_id}")
    async def delivery(request: Request, delivery_id: DeliveryId, resent: Annotated[bool, Query()] = False) -> Response:
        return await seen(request, lambda s: portal.delivery(s, delivery_id, resent=resent))

    @page("/deliveries/{delivery_id}/resend", "POST")
    async def resend(request: Request, delivery_id: DeliveryId) -> Response:
        return await seen(request, lambda s: portal.resend(s, delivery_id))
