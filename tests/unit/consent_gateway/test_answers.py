"""Every answer of Entra has a class, and every class a consequence."""

from itertools import product

import pytest

from consent_gateway.catalog.file import load_catalog
from consent_gateway.consent.outcome import NEXT_STEPS
from consent_gateway.entra.answers import (
    BY_CODE,
    Class,
    Stage,
    classify,
    codes_of_redirect,
    redirect_answer,
    resource_in,
)
from consent_gateway.entra.consequences import CONSEQUENCE, Leg, how_it_ends
from consent_gateway.errors import STATUS, Kind
from consent_gateway.grants.grants import Reason
from consent_gateway.web.texts import plain
from support.gateway import CLIENT_IDS

# What each code says, by Microsoft's reference of error codes and, where it is silent, by what was observed.
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
SAID: dict[Class, tuple[int, ...]] = {
    Class.DECLINED: (65004,),
    Class.WAITING_FOR_APPROVAL: (90095,),
    Class.INTERACTION: (16001, 50058, 50072, 50074, 50076, 50079, 50125),
    Class.WRONG_ACCOUNT: (16000, 50020, 50034, 51004, 90072),
    Class.PERSONAL_ACCOUNT: (90124, 9001023),
    Class.NOT_ADMINISTRATOR: (90093, 90094),
    Class.BLOCKED: (50105, 53000, 53001, 53002, 53003, 500212, 500213, 530032, 530035, 1000031),
    Class.SERVICE_MISSING: (500011, 650052),
    Class.NO_CONSENT: (65001, 90099, 650056),
    Class.STILL_CHANGING: (650051,),
    Class.REMOVED: (700011, 700016, 7000229),
    Class.DISABLED: (70001, 7000112),
    Class.TENANT: (90002, 900023),
    Class.WRONG_CLOUD: (90038, 900382, 900432),
    Class.REPLAY: (54005, 70000, 70008, 700005, 501481),
    Class.CONFIG: (50011, 50059, 50128, 65005, 70011, 90019, 90130, 500113, 650054, 650057, 900144, 900971),
    Class.OURS: (50012, 50194, 50196, 70002, 500133, 700027, 700030, 700229, 7000215, 7000218, 7000222),
    Class.TRANSIENT: (50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090),
    Class.UNKNOWN: (424242,),
}
# What the same code says elsewhere: on the silent sign-in a missing consent is a click on a page.
ELSEWHERE = {(Stage.SIGN_IN, 65001): Class.INTERACTION}
WORDS = (
    "invalid_client",
    "unauthorized_client",
    "invalid_grant",
    "access_denied",
    "consent_required",
    "new_word",
    None,
)
TAKES_AWAY = {
    Class.REMOVED: Reason.REMOVED,
    Class.NO_CONSENT: Reason.REMOVED,
    Class.DISABLED: Reason.DISABLED,
    Class.TENANT: Reason.TENANT_DELETED,
}


@pytest.mark.parametrize("klass", [one for one in Class if one is not Class.UNKNOWN])
def test_every_code_has_its_class_wherever_it_is_seen_and_under_whatever_word(klass: Class) -> None:
    for code, stage, status, word in product(SAID[klass], Stage, (None, 400, 401, 403), WORDS):
        expected = ELSEWHERE.get((stage, code), klass)
        assert classify(stage, status, word, (code,)) is expected, (code, stage, status, word)


@pytest.mark.parametrize("klass", Class)
def test_throttling_and_outages_are_a_matter_of_time_whatever_else_they_say(klass: Class) -> None:
    for code, stage, status, word in product(SAID[klass], Stage, (429, 500, 502, 503, 504), WORDS):
        assert classify(stage, status, word, (code,)) is Class.TRANSIENT, (code, stage, status, word)


def test_the_table_of_codes_is_complete() -> None:
    assert {code: klass for klass, codes in SAID.items() for code in codes if klass is not Class.UNKNOWN} == BY_CODE


@pytest.mark.parametrize("klass", Class)
def test_every_class_has_one_consequence_on_every_leg(klass: Class) -> None:
    for leg in Leg:
        follows = CONSEQUENCE[leg, klass]
        person = leg in {Leg.CONSENT, Leg.SILENT, Leg.SIGN_IN}
        assert (follows.ends_with is not None) is person
        if follows.ends_with is not None:
            assert follows.ends_with is how_it_ends(klass)
            assert follows.ends_with in NEXT_STEPS
            assert plain(f"problem.{follows.ends_with}.title")
        assert follows.takes_away is (TAKES_AWAY.get(klass) if leg is Leg.CHECK else None)
        # What takes a grant away is told from a fault of ours by the same answer's meaning at home.
        if follows.takes_away is not None or follows.doubts_us:
            assert CONSEQUENCE[Leg.HOME, klass].refuses_us
        assert not (follows.with_pages and leg is not Leg.SILENT)
    assert CONSEQUENCE[Leg.HOME, klass].refuses_us is (klass in {*TAKES_AWAY, Class.OURS, Class.CONFIG})


def test_a_silent_sign_in_goes_on_with_pages_where_a_person_can_help() -> None:
    goes_on = {klass for klass in Class if CONSEQUENCE[Leg.SILENT, klass].with_pages}
    assert goes_on == {Class.INTERACTION, Class.WRONG_ACCOUNT, Class.NO_CONSENT, Class.BLOCKED, Class.UNKNOWN}
    assert {klass for klass in Class if CONSEQUENCE[Leg.SILENT, klass].choose_account} == {Class.WRONG_ACCOUNT}


def test_who_cancels_has_declined_whatever_else_the_redirect_says() -> None:
    for error in ("access_denied", "invalid_request", "new_word"):
        assert redirect_answer(Stage.CONSENT, {"error": error, "error_subcode": "cancel"}).klass is Class.DECLINED
    assert redirect_answer(Stage.CONSENT, {"error": "new_word", "error_subcode": "other"}).klass is Class.UNKNOWN


def test_an_api_that_the_tenant_lacks_is_named_if_it_is_one_that_was_asked_for() -> None:
    resources = load_catalog(None, CLIENT_IDS).sets["read-activity-data"].resources
    (management,) = [one for one in resources if one.identifier == "https://manage.office.com"]
    lacking = f"AADSTS650052: The app is trying to access a service '{management.app_id}'(Management) that your org"
    answer = redirect_answer(
        Stage.CONSENT, {"error": "invalid_client", "error_description": lacking}, resources=resources
    )
    assert (answer.klass, answer.resource_app_id) == (Class.SERVICE_MISSING, management.app_id)
    by_name = "AADSTS500011: The resource principal named https://manage.office.com was not found"
    assert resource_in(by_name, resources) == management.app_id
    for text in (None, "", "AADSTS650052: '11111111-1111-4111-8111-111111111111'", f"{lacking} {resources[0].app_id}"):
        assert resource_in(text, resources) is None
    declined = {"error": "access_denied", "error_description": f"AADSTS65004 {management.app_id}"}
    assert redirect_answer(Stage.CONSENT, declined, resources=resources).resource_app_id is None


@pytest.mark.parametrize(
    ("stage", "status", "error", "codes", "expected"),
    [
        (Stage.CONSENT, None, "access_denied", (65004,), Class.DECLINED),
        (Stage.CONSENT, None, "access_denied", (), Class.DECLINED),
        (Stage.CONSENT, None, "permission_denied", (), Class.DECLINED),
        (Stage.CONSENT, None, "consent_required", (), Class.DECLINED),
        (Stage.CONSENT, None, "consent_required", (65004,), Class.DECLINED),
        (Stage.CONSENT, None, "access_denied", (50020,), Class.WRONG_ACCOUNT),
        (Stage.CONSENT, None, "access_denied", (90095,), Class.WAITING_FOR_APPROVAL),
        (Stage.CONSENT, None, "access_denied", (90094,), Class.NOT_ADMINISTRATOR),
        (Stage.CONSENT, None, "invalid_request", (), Class.PERSONAL_ACCOUNT),
        (Stage.CONSENT, None, "invalid_client", (650051,), Class.STILL_CHANGING),
        (Stage.CONSENT, None, "invalid_client", (650052,), Class.SERVICE_MISSING),
        (Stage.CONSENT, None, "access_denied", (53003,), Class.BLOCKED),
        (Stage.CONSENT, None, "server_error", (), Class.TRANSIENT),
        (Stage.CONSENT, None, "access_denied", (424242, 90094), Class.NOT_ADMINISTRATOR),
        (Stage.SIGN_IN, None, "login_required", (50058,), Class.INTERACTION),
        (Stage.SIGN_IN, None, "interaction_required", (), Class.INTERACTION),
        (Stage.SIGN_IN, None, "consent_required", (65001,), Class.INTERACTION),
        (Stage.SIGN_IN, None, "access_denied", (), Class.DECLINED),
        (Stage.SIGN_IN, None, "access_denied", (53003,), Class.BLOCKED),
        (Stage.REDEEM, 400, "invalid_grant", (54005,), Class.REPLAY),
        (Stage.REDEEM, 400, "invalid_grant", (), Class.REPLAY),
        (Stage.REDEEM, 400, "invalid_grant", (700005,), Class.REPLAY),
        (Stage.DISCOVERY, 400, "invalid_tenant", (90002,), Class.TENANT),
        (Stage.DISCOVERY, 400, "invalid_tenant", (), Class.TENANT),
        (Stage.DISCOVERY, 503, None, (), Class.TRANSIENT),
        (Stage.TOKEN, 400, "unauthorized_client", (700016,), Class.REMOVED),
        (Stage.TOKEN, 401, "invalid_client", (7000229,), Class.REMOVED),
        (Stage.TOKEN, 400, "unauthorized_client", (7000112,), Class.DISABLED),
        (Stage.TOKEN, 401, "invalid_client", (7000215,), Class.OURS),
        (Stage.TOKEN, 401, "invalid_client", (7000222,), Class.OURS),
        (Stage.TOKEN, 401, "invalid_client", (), Class.OURS),
        (Stage.TOKEN, 400, "invalid_grant", (65001,), Class.NO_CONSENT),
        (Stage.TOKEN, 400, "invalid_resource", (500011,), Class.SERVICE_MISSING),
        (Stage.TOKEN, 429, "too_many_requests", (), Class.TRANSIENT),
        (Stage.TOKEN, 400, "invalid_request", (90055,), Class.TRANSIENT),
        (Stage.TOKEN, 503, None, (), Class.TRANSIENT),
        (Stage.TOKEN, 503, "temporarily_unavailable", (424242,), Class.TRANSIENT),
        (Stage.TOKEN, 400, "something_new", (), Class.UNKNOWN),
        (Stage.TOKEN, 400, "invalid_grant", (424242,), Class.UNKNOWN),
        (Stage.TOKEN, 400, None, (), Class.UNKNOWN),
    ],
)
def test_answers_are_classified(
    stage: Stage, status: int | None, error: str | None, codes: tuple[int, ...], expected: Class
) -> None:
    assert classify(stage, status, error, codes) is expected


def test_an_unknown_code_is_never_destructive() -> None:
    for error in ("invalid_client", "unauthorized_client", "invalid_grant", "invalid_request", "consent_required"):
        for stage in Stage:
            assert CONSEQUENCE[Leg.CHECK, classify(stage, 400, error, (4242424,))].takes_away is None


def test_every_kind_of_refusal_has_an_http_status() -> None:
    assert set(STATUS) == set(Kind)


@pytest.mark.parametrize(
    ("params", "expected", "name"),
    [
        ({"error": "access_denied", "error_subcode": "cancel"}, Class.DECLINED, "access_denied"),
        (
            {"error": "access_denied", "error_description": "AADSTS65004: User declined\r\nTrace ID: x"},
            Class.DECLINED,
            "AADSTS65004",
        ),
        (
            {"error": "access_denied", "error_uri": "https://login.microsoftonline.com/error?code=50020"},
            Class.WRONG_ACCOUNT,
            "AADSTS50020",
        ),
        ({"error": "access_denied", "admin_consent": "True", "tenant": "x"}, Class.DECLINED, "access_denied"),
        ({"error": "<script>alert(1)</script>"}, Class.UNKNOWN, None),
    ],
)
def test_a_redirects_error_is_read_from_what_it_has(params: dict[str, str], expected: Class, name: str | None) -> None:
    answer = redirect_answer(Stage.CONSENT, params)
    assert (answer.klass, answer.name) == (expected, name)


def test_the_code_comes_from_the_link_before_the_text() -> None:
    assert codes_of_redirect("AADSTS65004: no", "https://login.test/error?code=50020") == (50020,)
    assert codes_of_redirect("AADSTS650: too short, XAADSTS65004", None) == ()
    assert codes_of_redirect(None, None) == ()
