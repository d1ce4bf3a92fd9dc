"""Where a request meets the troubles that were armed for it, and where it leaves what the request log may know."""

import asyncio
import contextlib
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from entra_sandbox.errors import EntraError
from entra_sandbox.faults import Endpoint, Fault
from entra_sandbox.sandbox import Sandbox

_BEFORE_THE_ANSWER = frozenset({"throttle", "unavailable", "hang", "reset"})
_EVERY_KIND = _BEFORE_THE_ANSWER | {"error"}
# A browser's flows meet AADSTS errors later, once the person is known: they end at the redirect URI.
_LATER = frozenset({"authorize", "adminconsent"})


class Tripped(Exception):
    """The request ends here, with this answer; without one the connection is cut."""

    def __init__(self, response: Response | None) -> None:
        super().__init__("a fault was armed")
        self.response = response


def note(request: Request, **values: object) -> None:
    """Leaves a fact for the request log: tenant, client, operation, AADSTS code."""
    noted: dict[str, Any] = request.scope.setdefault("state", {}).setdefault("noted", {})
    noted.update({name: value for name, value in values.items() if value is not None})


async def trip(
    sandbox: Sandbox, request: Request, endpoint: Endpoint, *, tenant_id: str | None, client_id: str | None = None
) -> None:
    """Makes the trouble that is armed for a request, if any.

    Raises:
        Tripped: the answer, or the cut, of a throttled, failing or broken endpoint.
        EntraError: the error that the endpoint was told to give.
    """
    kinds = _BEFORE_THE_ANSWER if endpoint in _LATER else _EVERY_KIND
    fault = sandbox.faults.take(endpoint, tenant_id=tenant_id, client_id=client_id, kinds=frozenset(kinds))
    if fault is None:
        return
    note(request, tenant_id=tenant_id, client_id=client_id)
    if fault.kind == "hang":
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sandbox.closing.wait(), fault.seconds)
            raise Tripped(None)
        return
    if fault.kind == "reset":
        raise Tripped(None)
    if fault.kind == "error":
        raise EntraError(fault.code or 0, error=fault.error, status=fault.status)
    raise Tripped(_answer(sandbox, endpoint, fault))


def _answer(sandbox: Sandbox, endpoint: Endpoint, fault: Fault) -> Response:
    status = fault.status or (429 if fault.kind == "throttle" else 503)
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.body == "empty":
        return Response(status_code=status, headers=headers)
    if fault.body == "html":
        return HTMLResponse("<html><body><h1>Service unavailable</h1></body></html>", status, headers)
    if endpoint == "graph":
        code = "TooManyRequests" if status == 429 else "ServiceUnavailable"
        if status == 429:
            headers |= {
                "x-ms-throttle-scope": "Tenant_Application/ReadWrite",
                "x-ms-throttle-information": "CPULimitExceeded",
            }
        return JSONResponse({"error": {"code": code, "message": "Please retry again later."}}, status, headers)
    error = (
        EntraError(90055, status=status)
        if status == 429
        else EntraError(
            90033,
            error="temporarily_unavailable",
            message="A transient error has occurred. Please try again.",
            status=status,
        )
    )
    return JSONResponse(error.refusal().body(sandbox.urls.login), status, headers)
