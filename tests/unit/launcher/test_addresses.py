import socket
from collections.abc import Iterator

import pytest

from launcher.addresses import DEFAULT_PORTS, Addresses, read_ports
from launcher.errors import LauncherError, PortTakenError
from launcher.ports import LOOPBACK, free_port, is_taken


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server.getsockname()[1]


def test_ports_are_read_from_words_and_the_last_one_wins() -> None:
    assert read_ports(["gateway=9080", "kafka=19092", "gateway=9081"]) == {"gateway": 9081, "kafka": 19092}


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("console=1", "there is no port 'console'; the ports are gateway,"),
        ("gateway", "give a port as gateway=NUMBER"),
        ("gateway=eighty", "give a port as gateway=NUMBER"),
        ("gateway=0", "from 1 to 65535"),
        ("gateway=65536", "from 1 to 65535"),
    ],
)
def test_a_wrong_port_says_what_would_be_right(word: str, hint: str) -> None:
    with pytest.raises(LauncherError, match=hint):
        read_ports([word])


def test_two_parts_cannot_share_a_port() -> None:
    with pytest.raises(LauncherError, match="gateway and kafka cannot both have port 8080"):
        read_ports([f"kafka={DEFAULT_PORTS['gateway']}"])


def test_every_taken_port_is_named_with_what_it_is_for_and_how_to_change_it(taken_port: int) -> None:
    free = {name: free_port() for name in DEFAULT_PORTS}
    Addresses(free).check_free()
    with pytest.raises(PortTakenError) as refusal:
        Addresses({**free, "notifier": taken_port}).check_free()
    message = str(refusal.value)
    assert f"port {taken_port} (notifier) is taken" in message
    assert 'DEMO_PORTS="notifier=' in message
    assert "gateway" not in message


def test_a_port_is_taken_while_somebody_listens(taken_port: int) -> None:
    assert is_taken(taken_port)
    assert not is_taken(free_port())
