"""The sandbox obeys its own pages and programs, never the page of another site in a person's browser."""

from urllib.parse import urlsplit

from fastapi import Request

from entra_sandbox.admin.refusals import OperationError


def is_own(request: Request) -> bool:
    """Whether the request's `Origin` is that of the sandbox's pages."""
    return urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")


async def refuse_other_sites(request: Request) -> None:
    """Refuses what a browser sends for another site (403); programs send no `Origin` at all."""
    if "origin" in request.headers and not is_own(request):
        raise OperationError(403, "The admin API does not answer pages of other sites.")
