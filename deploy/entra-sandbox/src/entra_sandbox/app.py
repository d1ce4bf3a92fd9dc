"""The three applications of the sandbox over one set of parts."""

from http import HTTPStatus
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError

from entra_sandbox.admin.api import admin_api
from entra_sandbox.admin.operations import operations_on
from entra_sandbox.admin.pages import admin_pages
from entra_sandbox.admin.refusals import OperationError
from entra_sandbox.browser_routes import browser_routes
from entra_sandbox.discovery_routes import discovery_routes
from entra_sandbox.errors import EntraError
from entra_sandbox.graph_errors import GraphError, request_ids
from entra_sandbox.graph_routes import graph_routes
from entra_sandbox.request_log import CUT, Recorder
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.token_routes import token_routes
from entra_sandbox.trouble import Tripped, note


def browser_app(sandbox: Sandbox) -> FastAPI:
    """Pages and admin API, on plain http."""
    app = FastAPI(
        title="Entra sandbox",
        description="Admin API of the sandbox.",
        openapi_url="/sandbox/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(_health())
    operations = operations_on(sandbox.directory)
    app.include_router(admin_api(sandbox, operations), prefix="/sandbox/api")
    app.include_router(admin_pages(sandbox, operations), prefix="/sandbox")
    static = Path(str(resources.files("entra_sandbox").joinpath("static")))
    app.mount("/static", StaticFiles(directory=static))

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/sandbox", status_code=303)

    app.include_router(browser_routes(sandbox), include_in_schema=False)
    _handle_errors(app, sandbox)

    @app.exception_handler(OperationError)
    async def operation_error(_: Request, error: OperationError) -> Response:
        return _problem(error.status, error.message)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(_: Request, error: RequestValidationError | ValidationError) -> Response:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return _problem(422, "; ".join(problems))

    app.add_middleware(Recorder, log=sandbox.requests, listener="browser")
    return app


def login_app(sandbox: Sandbox) -> FastAPI:
    """Discovery, keys and tokens, on https."""
    app = FastAPI(title="Entra sandbox: login", openapi_url=None)
    app.include_router(_health())
    app.include_router(discovery_routes(sandbox))
    app.include_router(token_routes(sandbox))
    _handle_errors(app, sandbox)
    app.add_middleware(Recorder, log=sandbox.requests, listener="login")
    return app


def graph_app(sandbox: Sandbox) -> FastAPI:
    """Microsoft Graph, on https."""
    app = FastAPI(title="Entra sandbox: Graph", openapi_url=None)
    app.include_router(_health())
    app.include_router(graph_routes(sandbox))
    _handle_errors(app, sandbox)

    @app.exception_handler(GraphError)
    async def graph_error(request: Request, error: GraphError) -> Response:
        headers = request_ids(request)
        body = error.body(headers)
        if error.status == 401:
            headers["WWW-Authenticate"] = (
                f'Bearer realm="", authorization_uri="{sandbox.urls.browser}/common/oauth2/authorize"'
            )
        return JSONResponse(body, error.status, headers)

    app.add_middleware(Recorder, log=sandbox.requests, listener="graph")
    return app


def _problem(status: int, detail: str) -> Response:
    """RFC 9457."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


def _health() -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/livez")
    @routes.get("/readyz")
    async def alive() -> dict[str, str]:
        """The sandbox opens its listeners last: whoever gets an answer gets it from a ready one."""
        return {"status": "ok"}

    return routes


def _handle_errors(app: FastAPI, sandbox: Sandbox) -> None:
    @app.exception_handler(EntraError)
    async def entra_error(request: Request, error: EntraError) -> Response:
        note(request, aadsts=error.code)
        refusal = error.refusal(request.headers.get("client-request-id"))
        headers = {"Cache-Control": "no-store, no-cache", "x-ms-request-id": refusal.trace_id}
        return JSONResponse(refusal.body(sandbox.urls.login), refusal.status, headers)

    @app.exception_handler(Tripped)
    async def tripped(request: Request, error: Tripped) -> Response:
        if error.response is None:
            request.scope["state"][CUT] = True
        return error.response or Response(status_code=503)
