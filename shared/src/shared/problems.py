"""Errors that a caller can act on, rendered as problem details (RFC 9457)."""

import http
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException

log = structlog.get_logger(__name__)


class Problem(Exception):
    """Something the caller did, or must wait for. ``detail`` names the next step; ``code`` is stable."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def not_found(what: str) -> Problem:
    """404. Also for what belongs to another account, which must look the same."""
    return Problem(404, "not_found", f"There is no such {what}, or it belongs to another account.")


def too_large(detail: str) -> Problem:
    """413: the body is larger than what is read here."""
    return Problem(413, "content_too_large", detail)


def response(problem: Problem) -> JSONResponse:
    """The problem as ``application/problem+json``."""
    body: dict[str, Any] = {
        "type": f"urn:consent-platform:problem:{problem.code}",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        **problem.extra,
    }
    return JSONResponse(body, problem.status, headers=problem.headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Render every error of the application as a problem."""

    @app.exception_handler(Problem)
    async def on_problem(_: Request, problem: Problem) -> JSONResponse:
        return response(problem)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"pointer": "/".join(str(part) for part in item["loc"]), "detail": item["msg"]} for item in error.errors()
        ]
        return response(
            Problem(422, "invalid_request", "The request does not have the documented form.", errors=errors)
        )

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 413:
            return response(too_large("Send less."))
        code = http.HTTPStatus(error.status_code).name.lower()
        return response(Problem(error.status_code, code, str(error.detail), headers=error.headers))

    @app.exception_handler(PyMongoError)
    async def on_store(_: Request, error: PyMongoError) -> JSONResponse:
        log.warning("http.store_unavailable", error=type(error).__name__)
        return response(
            Problem(
                503,
                "unavailable",
                "The service can't reach its database. Try again shortly.",
                headers={"Retry-After": "5"},
            )
        )

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        # Only a defect of ours ends here; the stack is for us, never for the caller.
        log.error("http.unexpected_error", error=type(error).__name__, exc_info=error)
        return response(Problem(500, "internal_error", "Something went wrong on our side. It has been logged."))
