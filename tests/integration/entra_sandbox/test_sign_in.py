"""The authorize endpoint as a browser meets it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest


def test_a_wrong_password_and_an_unknown_name_ask_again(person: Any, ids: Any) -> None:
    person.adminconsent(ids.contoso).sign_in("admin@contoso.com", "wrong")
    assert "Your account or password is incorrect" in person.text

    person.sign_in("nobody@contoso.com")
    assert "This username may be incorrect" in person.text

    person.sign_in("ADMIN@contoso.com")
    assert person.heading == "Permissions requested"


def test_people_of_the_list_sign_in_with_one_press(person: Any, ids: Any) -> None:
    person.adminconsent(ids.contoso).submit("people", pick="admin@contoso.com")

    assert person.heading == "Permissions requested"


def test_a_browser_stays_signed_in_and_gets_a_code_without_a_page(consented: Any, ids: Any) -> None:
    callback = consented.authorize(ids.contoso, prompt="none").callback

    assert callback["code"].startswith("1.A")
    assert callback["state"] == "st-1"
    assert "session_state" in callback
    assert "client_info" not in callback


def test_client_info_comes_when_it_is_asked_for(consented: Any, ids: Any) -> None:
    assert consented.authorize(ids.contoso, prompt="none", client_info="1").callback["client_info"]


def test_silence_without_a_session_is_login_required(person: Any, ids: Any) -> None:
    callback = person.authorize(ids.contoso, prompt="none").callback

    assert callback["error"] == "login_required"
    assert callback["error_description"].startswith("AADSTS50058: ")
    assert callback["state"] == "st-1"


def test_silence_with_somebody_of_another_tenant_is_interaction_required(consented: Any, ids: Any) -> None:
    callback = consented.authorize(ids.fabrikam, prompt="none").callback

    assert callback["error"] == "interaction_required"
    assert callback["error_description"].startswith("AADSTS16000: User account 'admin@contoso.com' ")


def test_silence_with_several_people_needs_a_hint(consented: Any, ids: Any) -> None:
    consented.authorize(ids.contoso, prompt="login").sign_in("user@contoso.com")

    several = consented.authorize(ids.contoso, prompt="none").callback
    assert several["error"] == "interaction_required"
    assert several["error_description"].startswith("AADSTS16000: Either multiple user identities ")

    assert "code" in consented.authorize(ids.contoso, prompt="none", login_hint="admin@contoso.com").callback
    hinted = consented.authorize(ids.contoso, prompt="none", login_hint="reader@contoso.com").callback
    assert hinted["error"] == "login_required"


def test_several_people_are_asked_which_of_them_it_is(consented: Any, ids: Any) -> None:
    consented.authorize(ids.contoso, prompt="login").sign_in("user@contoso.com")

    consented.authorize(ids.contoso)
    assert consented.heading == "Pick an account"
    assert "user@contoso.com" in consented.text

    consented.submit("switch")
    assert consented.heading == "Sign in"


def test_select_account_asks_even_a_single_person(consented: Any, ids: Any) -> None:
    consented.authorize(ids.contoso, prompt="select_account")

    assert consented.heading == "Pick an account"


def test_silence_without_consent_is_consent_required(person: Any, ids: Any) -> None:
    person.adminconsent(ids.contoso).sign_in("admin@contoso.com")

    callback = person.authorize(ids.contoso, prompt="none").callback

    assert callback["error"] == "consent_required"
    assert callback["error_description"].startswith("AADSTS65001: ")


def test_a_person_can_consent_for_themselves_where_the_tenant_lets_people(
    person: Any, people: Callable[[], Any], admin: httpx.Client, ids: Any
) -> None:
    person.authorize(ids.contoso).sign_in("user@contoso.com")
    assert "Review for your account" in person.text
    assert "on behalf of your organization" not in person.text
    assert "code" in person.accept().callback
    assert "code" in person.authorize(ids.contoso, prompt="none").callback

    grant = admin.get(f"tenants/{ids.contoso}/apps/{ids.client}").json()["grants"][0]
    assert (grant["consent_type"], grant["scopes"]) == ("Principal", ["openid", "profile"])

    admin.patch(f"tenants/{ids.contoso}", json={"user_consent": False}).raise_for_status()
    other = people().authorize(ids.contoso).sign_in("reader@contoso.com")
    assert other.heading == "Need admin approval"


def test_an_administrator_can_consent_for_everybody_while_signing_in(
    person: Any, people: Callable[[], Any], admin: httpx.Client, ids: Any
) -> None:
    person.authorize("organizations").sign_in("admin@contoso.com")
    assert "Consent on behalf of your organization" in person.text

    person.accept(for_all="1")

    app = admin.get(f"tenants/{ids.contoso}/apps/{ids.client}").json()
    assert app["grants"][0]["consent_type"] == "AllPrincipals"
    assert app["app_roles"] == []
    assert "code" in people().authorize(ids.contoso).sign_in("user@contoso.com").callback


def test_declining_for_oneself_is_access_denied(person: Any, ids: Any) -> None:
    person.authorize(ids.contoso).sign_in("user@contoso.com").submit("consent", decision="cancel")

    assert person.callback["error"] == "access_denied"
    assert person.callback["error_description"].startswith("AADSTS65004: ")


def test_prompt_consent_asks_although_everything_is_granted(consented: Any, ids: Any) -> None:
    consented.authorize(ids.contoso, prompt="consent")

    assert consented.heading == "Permissions requested"


@pytest.mark.parametrize(
    ("overrides", "error", "code"),
    [
        ({"response_type": ""}, "invalid_request", 900144),
        ({"response_type": "id_token"}, "unsupported_response_type", 700054),
        ({"scope": ""}, "invalid_request", 900144),
        ({"prompt": "admin_consent"}, "invalid_request", 901001),
        ({"prompt": "sometimes"}, "invalid_request", 90023),
        ({"response_mode": "pigeon"}, "invalid_request", 90023),
        ({"code_challenge": "short"}, "invalid_request", 501491),
        ({"code_challenge": "a" * 43, "code_challenge_method": "S512"}, "invalid_request", 90023),
    ],
)
def test_wrong_parameters_are_sent_back(
    person: Any, ids: Any, overrides: dict[str, str], error: str, code: int
) -> None:
    overrides = {"response_mode": "query", **overrides}
    callback = person.authorize(ids.contoso, **overrides).callback

    assert callback["error"] == error
    assert callback["error_description"].startswith(f"AADSTS{code}: ")


def test_a_parameter_that_is_there_twice_is_refused_on_a_page(person: Any, ids: Any) -> None:
    person.open(f"{person._sandbox.browser}/{ids.contoso}/oauth2/v2.0/authorize?client_id={ids.client}&state=1&state=2")

    assert person.response.status_code == 400
    assert "AADSTS9000411" in person.text


def test_answers_come_in_the_fragment_or_in_a_form_when_asked_for(consented: Any, ids: Any) -> None:
    fragment = consented.authorize(ids.contoso, prompt="none", response_mode="fragment").location
    assert fragment.startswith(f"{ids.proof}#code=")

    form = consented.authorize(ids.contoso, prompt="none", response_mode="form_post").forms["form-post"]
    assert form.action == ids.proof
    assert form.fields["code"]
    assert form.fields["state"] == "st-1"


def test_a_single_tenant_app_is_closed_to_others(person: Any, admin: httpx.Client, ids: Any) -> None:
    admin.patch(f"registrations/{ids.client}", json={"sign_in_audience": "AzureADMyOrg"}).raise_for_status()

    person.authorize("organizations")
    assert "AADSTS50194" in person.text
    person.authorize(ids.contoso)
    assert "AADSTS700016" in person.text
    person.authorize(ids.home)
    assert person.heading == "Sign in"


def test_a_disabled_app_is_shown_to_the_person_and_told_to_a_silent_client(
    consented: Any, admin: httpx.Client, ids: Any
) -> None:
    admin.patch(f"tenants/{ids.contoso}/apps/{ids.client}", json={"account_enabled": False}).raise_for_status()

    consented.authorize(ids.contoso)
    assert consented.response.status_code == 400
    assert "AADSTS7000112" in consented.text

    assert consented.authorize(ids.contoso, prompt="none").callback["error"] == "unauthorized_client"


def test_conditional_access_can_be_played_by_an_armed_error(consented: Any, admin: httpx.Client, ids: Any) -> None:
    fault = {"kind": "error", "endpoint": "authorize", "code": 53003, "error": "interaction_required", "remaining": 1}
    admin.post("faults", json=fault).raise_for_status()

    callback = consented.authorize(ids.contoso, prompt="none").callback

    assert callback["error"] == "interaction_required"
    assert callback["error_description"].startswith("AADSTS53003: ")


def test_a_deleted_person_is_not_signed_in_any_more(consented: Any, admin: httpx.Client, ids: Any) -> None:
    for user in admin.get(f"tenants/{ids.contoso}/users").json()["items"]:
        admin.delete(f"users/{user['object_id']}").raise_for_status()

    assert consented.authorize(ids.contoso, prompt="none").callback["error"] == "login_required"


def test_signing_out_forgets_everybody(consented: Any, ids: Any) -> None:
    consented.open(f"{consented._sandbox.browser}/{ids.contoso}/oauth2/v2.0/logout")
    assert consented.heading == "You signed out of your account"

    assert consented.authorize(ids.contoso, prompt="none").callback["error"] == "login_required"


def test_pages_are_never_cached_framed_or_scripted_from_elsewhere(person: Any, ids: Any) -> None:
    headers = person.adminconsent(ids.contoso).response.headers

    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
