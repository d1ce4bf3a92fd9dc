"""The portal: where an app's developer sees endpoints, attempts and payloads in a browser, and sends again.

Signing in: with the owner's token, ``POST /v1/portal-links`` gives a link; opened in a browser it leads to a page whose
button opens a session. The GET alone uses nothing up, since mail scanners and chats fetch links. Pages hold no script.
"""

import hmac
import json
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from notifier.deliveries import Status
from notifier.delivery_store import DeliveryStore
from notifier.pages import page_of
from notifier.portal_sessions import SESSION, PortalSessions, Session
from notifier.resending import Resending
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner
from shared.cursors import position_of
from shared.problems import Problem, not_found

PAGE = 50
SUBSCRIPTIONS = 100
STATUSES: tuple[Status, ...] = ("pending", "delivered", "dead")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # Not "no-referrer": with that, browsers hide the origin of forms from us as well.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class PortalLink(BaseModel):
    """Where to go on in a browser."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "url": "https://notifier.example/portal/open/one-time-token",
                "expires_at": "2026-11-23T13:05:00Z",
            }
        }
    )

    url: str = Field(description="Good once, until `expires_at`. Whoever opens it acts for you: pass it to nobody.")
    expires_at: AwareDatetime


class Portal:
    """The pages, and what they show."""

    def __init__(
        self,
        *,
        sessions: PortalSessions,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        resending: Resending,
        public_url: str,
    ) -> None:
        self._sessions = sessions
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._resending = resending
        self._url = public_url.rstrip("/")
        parts = urlsplit(self._url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._secure = parts.scheme == "https"
        self._cookie = "__Host-portal" if self._secure else "portal"
        self._pages = Environment(loader=PackageLoader("notifier"), autoescape=True, undefined=StrictUndefined)
        self._pages.filters["time"] = _time

    async def link(self, owner: Owner) -> PortalLink:
        """A link for the owner."""
        token, expires_at = await self._sessions.link(owner)
        return PortalLink(url=f"{self._url}/portal/open/{token}", expires_at=expires_at)

    async def session(self, request: Request) -> Session | None:
        """The session of the browser that asks."""
        token = request.cookies.get(self._cookie, "")
        return await self._sessions.find(token) if token else None

    async def sign_in(self, request: Request, link: str) -> Response:
        """Use the link up, if it is our page that asks: nobody is to sign others' browsers in."""
        if not self._comes_from_us(request):
            return self.foreign()
        session = await self._sessions.open(link)
        if session is None:
            return self.message(404, "This link is no longer good", "It was used, or is older than five minutes.")
        answer = RedirectResponse("/portal", 303, headers=HEADERS)
        answer.set_cookie(
            self._cookie,
            session.token,
            max_age=int(SESSION.total_seconds()),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def sign_out(self, session: Session) -> Response:
        """End the session."""
        await self._sessions.close(session)
        answer = self.message(200, "Signed out", "Ask the API for another link to come back.")
        answer.delete_cookie(self._cookie, path="/", secure=self._secure, httponly=True, samesite="strict")
        return answer

    async def is_ours(self, request: Request, session: Session) -> bool:
        """Whether a form was sent by a page of ours."""
        if not self._comes_from_us(request):
            return False
        sent = parse_qs((await request.body()).decode(errors="replace")).get("csrf_token", [""])[0]
        return hmac.compare_digest(sent.encode(), session.csrf.encode())

    def _comes_from_us(self, request: Request) -> bool:
        return request.headers.get("origin", self._origin) == self._origin

    async def endpoints(self, session: Session) -> Response:
        """All endpoints of the owner."""
        found = await self._subscriptions.list_of(session.owner, after=None, limit=SUBSCRIPTIONS)
        return self.render("portal.html", session, title="Endpoints", subscriptions=found)

    async def endpoint(
        self, session: Session, subscription_id: str, *, status: Status | None, cursor: str | None
    ) -> Response:
        """One endpoint with its deliveries, newest first."""
        subscription = await self._subscriptions.get(subscription_id, session.owner)
        if subscription is None:
            raise not_found("endpoint")
        after = position_of(cursor, tuple[datetime, str])
        rows = await self._deliveries.list_of(subscription_id, status=status, after=after, limit=PAGE + 1)
        items, following = page_of(rows, PAGE, lambda delivery: [delivery.created_at, delivery.id])
        return self.render(
            "endpoint.html",
            session,
            title=subscription.url,
            subscription=subscription,
            deliveries=items,
            statuses=STATUSES,
            status=status,
            cursor=following,
        )

    async def delivery(
        self, session: Session, delivery_id: str, *, problem: str = "", resent: bool = False, code: int = 200
    ) -> Response:
        """One delivery with its attempts and what is sent; above it what came of the wish to send it again."""
        found, subscription = await self._resending.owned(session.owner, delivery_id)
        body = await self._resending.body(session.owner, found)
        payload = json.dumps(json.loads(body), indent=2, ensure_ascii=False) if body is not None else None
        return self.render(
            "delivery.html",
            session,
            code=code,
            title=found.type,
            delivery=found,
            subscription=subscription,
            payload=payload,
            problem=problem,
            resent=resent,
        )

    async def resend(self, session: Session, delivery_id: str) -> Response:
        """Send it again, and show it."""
        try:
            await self._resending.resend(session.owner, delivery_id)
        except Problem as problem:
            if problem.status != 409:
                raise
            return await self.delivery(session, delivery_id, problem=problem.detail, code=409)
        return RedirectResponse(f"/portal/deliveries/{delivery_id}?resent=true", 303, headers=HEADERS)

    def render(self, page: str, session: Session | None, *, code: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401
        """A page."""
        text = self._pages.get_template(page).render(session=session, **values)
        return HTMLResponse(text, code, headers=HEADERS)

    def foreign(self) -> HTMLResponse:
        """A page for forms that are not ours."""
        return self.message(403, "That form did not come from here", "Go back, load the page again and repeat.")

    def message(self, code: int, title: str, text: str) -> HTMLResponse:
        """A page that says one thing."""
        return self.render("message.html", None, code=code, title=title, text=text)


def _time(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value is not None else ""
