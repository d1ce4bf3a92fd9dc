"""The key file: made once, private, rotated without invalidating living tokens."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest

from platform_idp.keys import KeyRing

LIFE = 100


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(tmp_path: Path, clock: Clock) -> KeyRing:
    ring = KeyRing(tmp_path / "keys", longest_life=LIFE, now=clock)
    ring.ensure()
    return ring


def kids(ring: KeyRing) -> list[str]:
    return [key["kid"] for key in ring.jwks()["keys"]]


def test_the_key_file_and_its_directory_are_private(ring: KeyRing, tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    assert [path.name for path in directory.iterdir()] == ["signing-keys.json"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "signing-keys.json").stat().st_mode) == 0o600

    ring.rotate()

    assert [path.name for path in directory.iterdir()] == ["signing-keys.json"]
    assert stat.S_IMODE((directory / "signing-keys.json").stat().st_mode) == 0o600


def test_a_second_start_finds_the_first_key(ring: KeyRing, tmp_path: Path) -> None:
    again = KeyRing(tmp_path / "keys", longest_life=LIFE)
    again.ensure()

    assert kids(again) == kids(ring)


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    rings = [KeyRing(tmp_path, longest_life=LIFE) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(KeyRing.ensure, rings))

    assert len({tuple(kids(ring)) for ring in rings}) == 1


def test_the_public_document_holds_no_private_part(ring: KeyRing) -> None:
    (key,) = ring.jwks()["keys"]

    assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}


def test_a_running_ring_notices_a_rotation_by_another_process(ring: KeyRing, tmp_path: Path, clock: Clock) -> None:
    old = ring.sign({"iss": "i", "aud": "a"}, typ="JWT")
    new = KeyRing(tmp_path / "keys", longest_life=LIFE, now=clock).rotate()

    assert kids(ring)[0] == new.kid
    assert jwt.get_unverified_header(ring.sign({}, typ="JWT"))["kid"] == new.kid
    assert ring.verify(old, typ="JWT", issuer="i", audience="a") is not None


def test_an_old_key_stays_until_its_last_token_has_expired(ring: KeyRing, clock: Clock) -> None:
    (first,) = kids(ring)
    clock.time += 10_000  # however old a key is, what counts is when it stopped signing
    second = ring.rotate().kid
    clock.time += LIFE
    third = ring.rotate().kid
    assert kids(ring) == [third, second, first]

    clock.time += 1
    fourth = ring.rotate().kid
    assert kids(ring) == [fourth, third, second]


def test_a_token_of_one_kind_does_not_pass_for_another(ring: KeyRing) -> None:
    token = ring.sign({"iss": "i", "aud": "a"}, typ="session+jwt")

    assert ring.verify(token, typ="session+jwt", issuer="i", audience="a")
    assert ring.verify(token, typ="JWT", issuer="i", audience="a") is None
    assert ring.verify(token, typ="session+jwt", issuer="i", audience="b") is None
    assert ring.verify(token, typ="session+jwt", issuer="j", audience="a") is None
    assert ring.verify("not a token", typ="session+jwt", issuer="i", audience="a") is None


def test_a_foreign_key_is_not_trusted(ring: KeyRing, tmp_path: Path) -> None:
    stranger = KeyRing(tmp_path / "stranger", longest_life=LIFE)
    stranger.ensure()

    assert ring.verify(stranger.sign({"iss": "i", "aud": "a"}, typ="JWT"), typ="JWT", issuer="i", audience="a") is None


def test_a_broken_file_is_an_error_not_a_new_key(tmp_path: Path) -> None:
    (tmp_path / "signing-keys.json").write_text("[]")

    with pytest.raises(ValueError, match="holds no key"):
        KeyRing(tmp_path, longest_life=LIFE).ensure()
