"""The two parts of the platform that the app calls: the issuer for tokens, the notifier for subscriptions."""

import time
from datetime import datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Answer = TypeVar("Answer", bound=BaseModel)


class PlatformError(Exception):
    """The platform could not be reached, or said no. The message names the part and what it answered.

    ``status`` is its HTTP status, None where there was no answer.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Subscription(BaseModel):
    """A subscription at the notifier. ``secret`` is only there when it was just made."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    url: str
    enabled: bool = True
    secret: str | None = None


class _Discovery(BaseModel):
    token_endpoint: str


class _TokenAnswer(BaseModel):
    access_token: str
    expires_in: float = Field(gt=0)


class _SubscriptionPage(BaseModel):
    items: list[Subscription]
    next_cursor: str | None = None


class _Secret(BaseModel):
    secret: str = Field(min_length=1)


class _Nothing(BaseModel):
    pass


class Tokens:
    """Access tokens of the suite's apps, by client credentials, kept until shortly before they expire."""

    def __init__(self, http: httpx.AsyncClient, *, issuer: str, client_secret: str) -> None:
        self._http = http
        self._issuer = issuer
        self._client_secret = client_secret
        self._tokens: dict[str, tuple[str, float]] = {}

    async def get(self, app_id: str) -> str:
        """A token of this app.

        Raises:
            PlatformError: the issuer cannot be reached, or refuses.
        """
        token, good_until = self._tokens.get(app_id, ("", 0.0))
        if time.monotonic() < good_until:
            return token
        discovery = await _call(
            self._http, "GET", f"{self._issuer}/.well-known/openid-configuration", _Discovery, part="issuer"
        )
        answer = await _call(
            self._http,
            "POST",
            discovery.token_endpoint,
            _TokenAnswer,
            part="issuer",
            data={"grant_type": "client_credentials"},
            auth=httpx.BasicAuth(app_id, self._client_secret),
        )
        token = answer.access_token
        self._tokens[app_id] = (token, time.monotonic() + answer.expires_in - min(60.0, answer.expires_in / 2))
        return token

    def forget(self, app_id: str) -> None:
        """Ask for a new token next time: the notifier did not take this one."""
        self._tokens.pop(app_id, None)


class Notifier:
    """The notifier's subscriptions, as one app sees them. Every method raises ``PlatformError``."""

    def __init__(self, http: httpx.AsyncClient, tokens: Tokens, *, url: str, app_id: str) -> None:
        self._http = http
        self._tokens = tokens
        self._url = url
        self._app_id = app_id

    async def subscriptions(self) -> list[Subscription]:
        """All subscriptions of this app."""
        found: list[Subscription] = []
        parameters = {"limit": "100"}
        while True:
            page = await self._call("GET", "", _SubscriptionPage, params=parameters)
            found += page.items
            if not page.next_cursor:
                return found
            parameters["cursor"] = page.next_cursor

    async def create(self, *, url: str, description: str) -> Subscription:
        """A new subscription, with its secret."""
        return await self._call("POST", "", Subscription, json={"url": url, "description": description})

    async def delete(self, subscription_id: str) -> None:
        """Take a subscription away."""
        await self._call("DELETE", f"/{subscription_id}", _Nothing)

    async def rotate_secret(self, subscription_id: str) -> str:
        """The subscription's new secret; the old one signs beside it for a while."""
        return (await self._call("POST", f"/{subscription_id}/rotate-secret", _Secret)).secret

    async def recover(self, subscription_id: str, *, since: datetime) -> None:
        """Enable the subscription again and have everything that failed since then sent once more."""
        await self._call("POST", f"/{subscription_id}/recover", _Nothing, json={"since": since.isoformat()})

    async def test(self, subscription_id: str) -> None:
        """Have a ``test.ping`` sent."""
        await self._call("POST", f"/{subscription_id}/test", _Nothing)

    async def _call(self, method: str, path: str, answer: type[Answer], **request: Any) -> Answer:  # noqa: ANN401 (httpx's own parameters)
        headers = {"Authorization": f"Bearer {await self._tokens.get(self._app_id)}"}
        url = f"{self._url}/v1/subscriptions{path}"
        try:
            return await _call(self._http, method, url, answer, part="notifier", headers=headers, **request)
        except PlatformError as error:
            if error.status == 401:
                self._tokens.forget(self._app_id)
            raise


async def _call(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    answer: type[Answer],
    *,
    part: str,
    **request: Any,  # noqa: ANN401 (httpx's own parameters)
) -> Answer:
    """What the part of the platform answered, checked against the form that is needed of it."""
    try:
        response = await http.request(method, url, **request)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PlatformError(f"the {part} cannot be reached ({type(error).__name__})") from None
    if not response.is_success:
        message = f"the {part} answered {response.status_code} ({_reason(response)})"
        raise PlatformError(message, status=response.status_code)
    try:
        return answer.model_validate_json(response.content or b"{}")
    except ValidationError:
        raise PlatformError(f"the {part} answered {response.status_code} with something else than expected") from None


def _reason(response: httpx.Response) -> str:
    """The words of a problem (RFC 9457) or of an OAuth error (RFC 6749), else of the status line."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    return str(problem.get("detail") or problem.get("error_description") or response.reason_phrase)
