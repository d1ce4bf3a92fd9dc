"""Request parameters: each may be given once (RFC 6749, 3.1)."""

from collections.abc import Iterable

from starlette.datastructures import UploadFile

from entra_sandbox.errors import EntraError


def once(items: Iterable[tuple[str, str | UploadFile]]) -> dict[str, str]:
    """Parameters by name.

    Raises:
        EntraError: 9000411, a parameter is there twice.
    """
    found: dict[str, str] = {}
    for name, value in items:
        if name in found:
            raise EntraError(9000411, name=name)
        found[name] = str(value)
    return found
