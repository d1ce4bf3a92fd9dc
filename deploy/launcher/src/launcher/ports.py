"""Free and taken TCP ports of this machine."""

import errno
import secrets
import socket

LOOPBACK = "127.0.0.1"
BELOW_EPHEMERAL = range(20_000, 32_000)


def free_port() -> int:
    """A port that nobody listens on, outside the range from which the kernel takes the ports of outgoing connections.

    Inside that range a server that restarts can find its port gone to some client, and a client that waits for a server
    can end up connected to itself.
    """
    while is_taken(port := secrets.choice(BELOW_EPHEMERAL)):
        pass
    return port


def is_taken(port: int) -> bool:
    """Whether somebody listens on this port at the name localhost, be it IPv4 or IPv6."""
    for family, address in ((socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::1")):
        try:
            probe = socket.socket(family)
        except OSError:  # no IPv6 here
            continue
        with probe:
            # As servers do: a port whose last connections are in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return True
    return False
