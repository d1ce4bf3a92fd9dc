"""The proof sign-in by msal: the authorization-code flow with PKCE, for people.

msal is synchronous, so it runs in a bounded pool of threads. Each use gets a throw-away client with caches of its own:
msal otherwise repeats an HTTP 400 for a minute without asking (msal 1.39).
"""

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import msal  # type: ignore[import-untyped]  # msal ships no type information

from consent_gateway.consent.attempts import Leg
from consent_gateway.consent.neighbours import SignIn
from consent_gateway.consent.proof import SigningKey
from consent_gateway.entra.answers import Answer, Class, EntraFailed, Stage, classify
from consent_gateway.entra.credentials import CredentialError, Credentials
from consent_gateway.entra.discovery import Discovery, Metadata, browser_endpoint, failure, seconds_of

Result = TypeVar("Result")


class EntraTokens:
    """msal behind our own rules: our TLS, our timeouts, no discovery of its own, no caches, no environment."""

    def __init__(
        self,
        discovery: Discovery,
        client: httpx.Client,
        credentials: Credentials,
        *,
        login_url: str,
        concurrency: int,
        timeout_seconds: float,
    ) -> None:
        self._discovery = discovery
        self._client = client
        self._credentials = credentials
        self._login_url = login_url
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="entra")
        # A request may take the timeout twice over (connect, read); beyond that nobody waits for it any more.
        self._timeout = timeout_seconds * 2 + 1

    def close(self) -> None:
        """Let the threads go; what they still do nobody waits for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def authorization_origin(self) -> str:
        """The origin of Entra's pages; raises ``EntraFailed``."""
        return await self._discovery.authorization_origin()

    async def begin_sign_in(
        self,
        *,
        tenant_id: str,
        client_id: str,
        redirect_uri: str,
        state: str,
        silent: bool,
        choose_account: bool = False,
    ) -> SignIn:
        """Begin an authorization-code flow on the tenant, with PKCE and a nonce; silently means without any page.

        ``choose_account`` lets the person choose among the accounts that the browser knows.

        Raises:
            EntraFailed: there is no such tenant, or its endpoint isn't one to send a browser to.
        """
        metadata = await self._discovery.metadata(tenant_id)
        browser_endpoint(metadata)
        prompt = "none" if silent else "select_account" if choose_account else None

        def begin(app: msal.ConfidentialClientApplication) -> Any:  # noqa: ANN401 - as above
            return app.initiate_auth_code_flow(
                scopes=[],
                redirect_uri=redirect_uri,
                state=state,
                prompt=prompt,
                response_mode="query",
            )

        flow = await self._run(Stage.SIGN_IN, metadata, tenant_id, client_id, begin)
        return SignIn(
            url=flow["auth_uri"], nonce=flow["nonce"], verifier=flow["code_verifier"], scope=tuple(flow["scope"])
        )

    async def redeem(self, leg: Leg, *, redirect_uri: str, code: str, state: str) -> str:
        """The ID token of an authorization code. msal has compared its nonce; everything else is for the caller.

        Raises:
            EntraFailed: Entra refused the code, or the answer holds no ID token of this flow.
        """
        tenant_id = leg.tenant_id or ""
        metadata = await self._discovery.metadata(tenant_id)
        flow = {
            "state": state,
            "redirect_uri": redirect_uri,
            "scope": list(leg.scope),
            "code_verifier": leg.verifier,
            "nonce": leg.nonce,
        }

        def redeem(app: msal.ConfidentialClientApplication) -> Any:  # noqa: ANN401 - as above
            return app.acquire_token_by_auth_code_flow(flow, {"code": code, "state": state})

        result = await self._run(Stage.REDEEM, metadata, tenant_id, leg.client_id, redeem)
        id_token = result.get("id_token")
        if not isinstance(id_token, str):
            raise EntraFailed(Answer(stage=Stage.REDEEM, klass=Class.REPLAY, error="no_id_token"))
        return id_token

    async def signing_key(self, *, tenant_id: str, key_id: str) -> tuple[SigningKey, str]:
        """The tenant's key with this id, and its issuer; raises ``EntraFailed``."""
        metadata = await self._discovery.metadata(tenant_id)
        return await self._discovery.signing_key(metadata, key_id), metadata.issuer

    async def _run(
        self,
        stage: Stage,
        metadata: Metadata,
        tenant_id: str,
        client_id: str,
        use: Callable[[msal.ConfidentialClientApplication], Any],
    ) -> dict[str, Any]:
        once = functools.partial(self._use, stage, metadata, tenant_id, client_id, use)
        work = functools.partial(self._with_either, client_id, once)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError:
            raise EntraFailed(Answer(stage=stage, klass=Class.TRANSIENT, error="timeout")) from None

    def _with_either(self, client_id: str, once: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """With the other credential of a rotation where Entra refuses the one; a code is not used up by that."""
        turn = self._credentials.turn(client_id)
        try:
            return once()
        except EntraFailed as failed:
            if failed.answer.klass is not Class.OURS or not self._credentials.turn_over(client_id, refused=turn):
                raise
        return once()

    def _use(
        self,
        stage: Stage,
        metadata: Metadata,
        tenant_id: str,
        client_id: str,
        use: Callable[[msal.ConfidentialClientApplication], Any],
    ) -> dict[str, Any]:
        """In a thread: one throw-away client, one use, one classified answer."""
        wire = _Wire(self._client, metadata)
        try:
            app = msal.ConfidentialClientApplication(
                client_id,
                client_credential=self._credentials.of(client_id),
                authority=f"{self._login_url}/{tenant_id}",
                http_client=wire,
                instance_discovery=False,
                azure_region=False,
                exclude_scopes=["offline_access"],
            )
            result = use(app)
        except CredentialError:
            raise EntraFailed(Answer(stage=stage, klass=Class.OURS, error="credential")) from None
        except _NoJson as answer:
            raise EntraFailed(_without_json(stage, answer)) from None
        except httpx.HTTPError as error:
            raise EntraFailed(Answer(stage=stage, klass=Class.TRANSIENT, error=type(error).__name__)) from None
        except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, msal.exceptions.MsalError):
            # msal's many ways to dislike an answer: a wrong nonce, an ID token that isn't one, a broken key of ours.
            klass = Class.REPLAY if stage is Stage.REDEEM else Class.UNKNOWN
            raise EntraFailed(Answer(stage=stage, klass=klass, error="unusable_answer")) from None
        if not isinstance(result, dict):
            raise EntraFailed(Answer(stage=stage, klass=Class.UNKNOWN, error="unusable_answer"))
        if "error" in result:
            raise EntraFailed(failure(stage, wire.status, result, wire.retry_after))
        return result


class _NoJson(Exception):
    """The token endpoint answered with something that isn't a JSON object; its body is never looked at or logged."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(str(status))
        self.status = status
        self.retry_after = retry_after


def _without_json(stage: Stage, answer: _NoJson) -> Answer:
    klass = classify(stage, answer.status, None)
    return Answer(stage=stage, klass=klass, error=f"http_{answer.status}", retry_after=seconds_of(answer.retry_after))


class _Wire:
    """msal's HTTP client for one use: form-encodes as msal means it, and answers discovery from what is known."""

    def __init__(self, client: httpx.Client, metadata: Metadata) -> None:
        self._client = client
        self._metadata = metadata
        self.status: int | None = None
        self.retry_after: str | None = None

    def get(self, url: str, params: Mapping[str, str] | None = None, **_: object) -> httpx.Response:
        """The discovery document; msal has nothing else to get."""
        if url != self._metadata.url or params:
            raise httpx.UnsupportedProtocol("msal asks for something else than the discovery document")
        return httpx.Response(200, json=self._metadata.document)

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> httpx.Response:
        """A form post. httpx would encode msal's bytes assertions as the text `b'...'`, so it gets them encoded."""
        body = data if isinstance(data, str) else urlencode(data or {})
        sent = {**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"}
        answer = self._client.post(url, params=params, content=body.encode(), headers=sent)
        self.status, self.retry_after = answer.status_code, answer.headers.get("retry-after")
        try:
            content = json.loads(answer.text)
        except ValueError:
            content = None
        # msal raises for 5xx and logs a body that isn't JSON: neither tells us enough, and the latter too much.
        if not isinstance(content, dict) or (answer.status_code >= 500 and "error" not in content):
            raise _NoJson(answer.status_code, self.retry_after)
        if answer.status_code >= 500:
            return httpx.Response(400, headers={"content-type": "application/json"}, json=content)
        return answer

    def close(self) -> None:
        """The client is shared and closed by its owner."""
