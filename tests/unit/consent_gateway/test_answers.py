"""Every answer of Entra has a class, and every class a consequence."""

import pytest

from consent_gateway.answers import BY_CODE, GONE, KINDS, Class, Stage, classify, codes_of_redirect, redirect_answer
from consent_gateway.errors import STATUS, Kind
from consent_gateway.outcome import NEXT_STEPS


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
            assert classify(stage, 400, error, (4242424,)) not in GONE


def test_no_code_has_two_classes_and_every_class_has_a_consequence() -> None:
    assert set(KINDS) == set(Class)
    assert set(STATUS) == set(Kind)
    assert set(KINDS.values()) <= set(NEXT_STEPS)
    assert set(BY_CODE.values()) <= set(Class)


def test_only_refusals_on_the_customers_side_take_grants_away() -> None:
    assert set(GONE) == {Class.REMOVED, Class.NO_CONSENT, Class.DISABLED, Class.TENANT}


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
