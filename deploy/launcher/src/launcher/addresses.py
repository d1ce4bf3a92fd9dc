"""Which port each part of the stack has, and what people and services call it."""

from collections.abc import Iterable, Mapping

from launcher.errors import LauncherError, PortTakenError
from launcher.ports import is_taken

DEFAULT_PORTS: Mapping[str, int] = {
    "gateway": 8080,
    "registry": 8081,
    "notifier": 8082,
    "sandbox": 8090,
    "sandbox-login": 8443,
    "sandbox-graph": 8444,
    "idp": 8091,
    "app": 8092,
    "kafka": 9092,
    "kafka-controller": 9093,
    "mongod": 27017,
}
HOW_TO_CHANGE = 'make demo DEMO_PORTS="{changes}"'


class Addresses:
    """The ports of one stack, by the names of `DEFAULT_PORTS`."""

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        self.ports = {**DEFAULT_PORTS, **(ports or {})}

    def url(self, name: str, *, scheme: str = "http") -> str:
        """The address of a part, as a browser on this machine uses it; no trailing slash."""
        return f"{scheme}://localhost:{self.ports[name]}"

    def check_free(self) -> None:
        """Make sure that the stack can listen on all its ports.

        Raises:
            PortTakenError: the message names each port that is taken, what it is for, and how to choose another.
        """
        taken = {name: port for name, port in self.ports.items() if is_taken(port)}
        if not taken:
            return
        lines = [f"port {port} ({name}) is taken by another program" for name, port in taken.items()]
        changes = " ".join(f"{name}={_neighbour(port)}" for name, port in taken.items())
        raise PortTakenError(
            "\n".join(lines) + f"\nend that program, or choose other ports: {HOW_TO_CHANGE.format(changes=changes)}"
        )


def read_ports(assignments: Iterable[str]) -> dict[str, int]:
    """The ports of ``NAME=NUMBER`` words; later ones win.

    Raises:
        LauncherError: a word is malformed, names no part of the stack, or two parts end up on one port.
    """
    ports: dict[str, int] = {}
    for word in assignments:
        name, _, number = word.partition("=")
        if name not in DEFAULT_PORTS:
            raise LauncherError(f"{word!r}: there is no port {name!r}; the ports are {', '.join(DEFAULT_PORTS)}")
        if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65_536:
            raise LauncherError(f"{word!r}: give a port as {name}=NUMBER, with a number from 1 to 65535")
        ports[name] = int(number)
    by_port: dict[int, str] = {}
    for name, port in {**DEFAULT_PORTS, **ports}.items():
        if port in by_port:
            raise LauncherError(f"{by_port[port]} and {name} cannot both have port {port}")
        by_port[port] = name
    return ports


def _neighbour(port: int) -> int:
    """A free port to suggest."""
    candidate = port + 1000
    while is_taken(candidate):
        candidate += 1
    return candidate
