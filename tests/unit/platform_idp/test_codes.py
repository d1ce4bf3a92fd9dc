"""Authorization codes are good once, for a minute."""

from platform_idp.authorization import AuthorizationRequest
from platform_idp.codes import AuthorizationCodes
from platform_idp.people import people

REQUEST = AuthorizationRequest("c", "http://localhost/cb", None, None, ("openid",), "A" * 43, frozenset(), None)


class Clock:
    time = 1_000.0

    def __call__(self) -> float:
        return self.time


def test_a_code_is_redeemed_once() -> None:
    codes = AuthorizationCodes(life=60)
    person = next(people())
    code = codes.issue(REQUEST, person, auth_time=5)

    grant = codes.redeem(code)
    assert grant is not None
    assert (grant.person, grant.auth_time, grant.request) == (person, 5, REQUEST)
    assert codes.redeem(code) is None


def test_an_expired_code_is_refused_and_forgotten() -> None:
    clock = Clock()
    codes = AuthorizationCodes(life=60, now=clock)
    late = codes.issue(REQUEST, next(people()), auth_time=5)
    abandoned = codes.issue(REQUEST, next(people()), auth_time=5)
    clock.time += 60

    assert codes.redeem(late) is None
    codes.issue(REQUEST, next(people()), auth_time=5)
    assert abandoned not in codes._grants


def test_an_unknown_code_is_refused() -> None:
    assert AuthorizationCodes(life=60).redeem("") is None
