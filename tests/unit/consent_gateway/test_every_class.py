"""Each class of Entra's answers in a check: what is counted, what is kept, and that it is asked about again."""

import httpx
import pytest

from consent_gateway.checks.checks import Outcome
from consent_gateway.checks.registrations import Home
from consent_gateway.entra.answers import BY_CODE, Class, Stage, classify
from consent_gateway.entra.consequences import how_it_ends
from consent_gateway.grants.grants import Status
from support.entra_classes import EVERY
from support.gateway import CLIENT_IDS

from .test_checks import T0, check, granted
from .test_entra_adapters import RESOURCE, TEAMS, Entra, answer_with, app_token, by_scope, find, world

CLIENT = CLIENT_IDS["read-directory-data"]
CODES = [*BY_CODE.items(), (EVERY[Class.UNKNOWN].code, Class.UNKNOWN)]
# Checks in a row, in seconds: more of them, and over a longer time, than it takes to believe a negative.
OFTEN = (10, 400, 800, 1_200, 1_600)


def test_no_class_is_left_out_and_each_has_a_code_of_its_own() -> None:
    assert set(EVERY) == set(Class)
    for klass, leads in EVERY.items():
        assert classify(Stage.TOKEN, 400, "new_word", (leads.code,)) is klass
        assert how_it_ends(klass) is leads.ends_with


@pytest.mark.parametrize(("code", "klass"), CODES)
async def test_an_answer_takes_away_what_it_says_after_several_and_anything_else_never(code: int, klass: Class) -> None:
    leads, entra = EVERY[klass], Entra()
    entra.token = lambda _: httpx.Response(400, json={"error": "new_word", "error_codes": [code]})
    async with world(entra) as made:
        finding = await find(made)
    assert (finding.gone, finding.ours) == (leads.takes_away, leads.doubts_us)
    assert bool(finding.absent) is leads.absent
    assert finding.throttled is (klass is Class.TRANSIENT)

    grant = granted()
    first = check(grant, finding, OFTEN[0])
    assert (first.changed, first.grant.status) == (False, Status.GRANTED)
    for seconds in OFTEN:
        grant = check(grant, finding, seconds).grant
        # Whatever was said, it is asked again.
        assert not grant.live or (grant.health.next_at is not None and grant.health.next_at > T0)
    if leads.takes_away is not None:
        assert first.outcome is Outcome.NEGATIVE
        assert (grant.status, grant.reason) == (Status.REVOKED, leads.takes_away)
    else:
        assert first.outcome is Outcome.INCONCLUSIVE
        assert (grant.status, grant.health.negatives, grant.health.failures) == (Status.GRANTED, 0, len(OFTEN))
        assert grant.health.error == f"{klass}: AADSTS{code}"


@pytest.mark.parametrize("klass", Class)
async def test_one_token_proves_that_the_registration_is_there_whatever_another_api_says(klass: Class) -> None:
    entra = Entra()
    entra.token = by_scope({"teams": EVERY[klass].code})
    async with world(entra) as made:
        finding = await find(made, RESOURCE, TEAMS)
    assert finding.gone is None
    assert (set(finding.absent), finding.unanswered) == (
        ({TEAMS.app_id}, None) if EVERY[klass].absent else (set(), f"{klass}: {EVERY[klass].name}")
    )


@pytest.mark.parametrize("klass", Class)
async def test_what_cannot_be_a_customers_doing_at_home_is_our_own_fault(klass: Class) -> None:
    leads, entra = EVERY[klass], Entra()
    entra.token = lambda _: httpx.Response(400, json={"error": "new_word", "error_codes": [leads.code]})
    async with world(entra) as made:
        refuses_us = leads.doubts_us or leads.takes_away is not None
        assert await made.probe.home(CLIENT) is (Home.OURS if refuses_us else Home.UNKNOWN)
        entra.token = lambda _: answer_with(app_token())
        assert await made.probe.home(CLIENT) is Home.UNKNOWN, "a token of another tenant says nothing of ours"
