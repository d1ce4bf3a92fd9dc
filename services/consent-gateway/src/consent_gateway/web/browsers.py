"""Where a request comes from, as far as the audit wants to know: the browser's address, and its family."""

from ipaddress import ip_address

from fastapi import Request

from consent_gateway.consent.attempts import Browser

# The first that fits: all of them claim to be one of those further down.
_FAMILIES = (
    ("Edge", ("Edg/", "EdgA/", "EdgiOS/")),
    ("Opera", ("OPR/", "OPT/")),
    ("Firefox", ("Firefox/", "FxiOS/")),
    ("Chrome", ("Chrome/", "CriOS/", "Chromium/")),
    ("Safari", ("Safari/",)),
)
OTHER = "other"


def browser_of(request: Request) -> Browser:
    """The browser that sent the request.

    The address is that of the connection. Behind a proxy it is what the proxy says, where ``FORWARDED_ALLOW_IPS`` names
    the proxy: anybody else's ``X-Forwarded-For`` is never read. Of the user agent only the family is kept, one of a few
    words of ours.
    """
    agent = request.headers.get("user-agent", "")
    family = next((name for name, marks in _FAMILIES if any(mark in agent for mark in marks)), OTHER)
    return Browser(address=_address(request.client.host if request.client is not None else ""), family=family)


def _address(text: str) -> str | None:
    """The address in its one form; what a proxy passed on unread may be anything."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None
