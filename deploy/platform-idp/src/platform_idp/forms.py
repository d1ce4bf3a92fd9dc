"""Reads form bodies strictly: one value per name, as OAuth 2.0 wants it (RFC 6749, section 3.2)."""

from urllib.parse import parse_qsl

from starlette.requests import Request

from platform_idp.errors import OAuthError

_LARGEST_BODY = 64 * 1024
_MOST_FIELDS = 50


async def read_pairs(request: Request) -> list[tuple[str, str]]:
    """The form's fields in order; empty values are left out, as RFC 6749 section 3.1 asks.

    Raises:
        OAuthError: not a form, too large, or not UTF-8.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "the body must be application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise OAuthError("invalid_request", "the body is too large", status=413)
    try:
        return parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise OAuthError("invalid_request", "the body is not a form in UTF-8") from None


async def read_form(request: Request) -> dict[str, str]:
    """The form as a mapping.

    Raises:
        OAuthError: as ``read_pairs``, and for a name that is given twice.
    """
    pairs = await read_pairs(request)
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "a parameter is given more than once")
    return form
