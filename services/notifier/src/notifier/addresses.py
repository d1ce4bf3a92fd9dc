"""Which network addresses and URLs a webhook may be sent to (defence against server-side request forgery). Pure."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA IPv4 and IPv6 Special-Purpose Address Registries, and multicast: all that isn't globally reachable unicast.
_FORBIDDEN_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# The only IPv6 unicast that IANA has given out so far. Mapped, compatible and translated IPv4 addresses, NAT64, unique
# local, link-local and multicast ones all lie outside.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
# Within it. Tunnels that carry an IPv4 address are refused whole: what is behind them can't be checked.
_FORBIDDEN_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# Names that only a resolver of ours could know.
_LOCAL_SUFFIXES = (".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa", ".corp")
MAX_URL_LENGTH = 2048


class RefusedUrl(ValueError):
    """The URL can't be an endpoint; the message tells its owner why and what would do."""


def is_public(address: IPAddress, *, refused: Collection[IPNetwork] = ()) -> bool:
    """Whether the address is unicast that the whole Internet can reach, and in none of the networks ``refused``."""
    forbidden: Collection[IPNetwork] = _FORBIDDEN_V4
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address.scope_id is not None or address not in _GLOBAL_V6:
            # A zone makes an address local, and equal to no network's.
            return False
        else:
            forbidden = _FORBIDDEN_V6
    return not any(address in network for networks in (forbidden, refused) for network in networks)


def literal(host: str) -> IPAddress | None:
    """The address that a URL's host is written as, or None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def check_url(url: str, *, private_allowed: bool, ports: Collection[int], refused: Collection[IPNetwork] = ()) -> None:
    """Raise ``RefusedUrl`` unless webhooks may go to this URL, as far as the text of it tells."""
    if len(url) > MAX_URL_LENGTH or not url.isascii() or any(ord(char) <= 0x20 or char in '\\"<>^`{|}' for char in url):
        raise RefusedUrl(f"Write the URL in ASCII, without spaces, in at most {MAX_URL_LENGTH} characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RefusedUrl("That is not a URL.") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise RefusedUrl("Give an absolute URL that starts with https://.")
    if parts.username is not None or parts.password is not None:
        raise RefusedUrl("Leave user name and password out of the URL: verify webhook-signature instead.")
    if parts.fragment:
        raise RefusedUrl("Leave the fragment (#...) out: it is never sent.")
    if not private_allowed:
        _check_public(parts.scheme, parts.hostname, port, ports, refused)


def _check_public(
    scheme: str, host: str, port: int | None, ports: Collection[int], refused: Collection[IPNetwork]
) -> None:
    if scheme != "https":
        raise RefusedUrl("Give an https:// URL.")
    if port is not None and port not in ports:
        raise RefusedUrl(f"Use one of the ports {', '.join(map(str, sorted(ports)))}.")
    address = literal(host)
    if address is not None:
        if not is_public(address, refused=refused):
            raise RefusedUrl("That address is not on the public Internet.")
        return
    name = host.rstrip(".").lower()
    if "." not in name or name.endswith(_LOCAL_SUFFIXES):
        raise RefusedUrl("That name is not on the public Internet.")
