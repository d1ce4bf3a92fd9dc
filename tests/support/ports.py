"""Ports for a whole stack of a test's own."""

from launcher.addresses import DEFAULT_PORTS
from launcher.ports import free_port


def free_ports() -> dict[str, int]:
    """A free port for each part of the stack, no two alike."""
    ports: set[int] = set()
    while len(ports) < len(DEFAULT_PORTS):
        ports.add(free_port())
    return dict(zip(DEFAULT_PORTS, ports, strict=True))
