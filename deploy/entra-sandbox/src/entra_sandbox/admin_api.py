"""The admin API."""

from fastapi import APIRouter

from entra_sandbox.sandbox import Sandbox


def admin_api(sandbox: Sandbox) -> APIRouter:
    """Routes under `/sandbox/api`."""
    routes = APIRouter()

    @routes.post("/reset", status_code=204)
    async def reset() -> None:
        """Back to the first start."""
        sandbox.reset()

    return routes
