"""Who it is: decided from session, tenant and wish."""

from collections.abc import Callable

import pytest

from entra_sandbox.directory import Directory
from entra_sandbox.errors import EntraError
from entra_sandbox.model import Registration, Tenant
from entra_sandbox.sessions import BrowserSession
from entra_sandbox.sign_in import AskToSignIn, AskWhich, Choice, SignedInAs, Wish, choose


@pytest.fixture
def decide(directory: Directory, registration: Registration) -> Callable[..., Choice]:
    def ask(people: list[str], authority: str, **wish: str) -> Choice:
        session = BrowserSession(id="s")
        for name in people:
            user = directory.user_by_name(name)
            session = session.with_person(user.object_id if user else "gone")
        return choose(directory, session, directory.authority(authority), Wish(registration=registration, **wish))

    return ask


ADMIN, USER, OTHER = "admin@contoso.com", "user@contoso.com", "admin@fabrikam.com"


@pytest.mark.parametrize(
    ("people", "authority", "wish", "expected"),
    [
        ([], "contoso.com", {}, AskToSignIn("")),
        ([], "organizations", {"login_hint": ADMIN}, AskToSignIn(ADMIN)),
        (["nobody@contoso.com"], "contoso.com", {}, AskToSignIn("")),
        ([ADMIN], "contoso.com", {"prompt": "login"}, AskToSignIn("")),
        ([], "contoso.com", {"prompt": "select_account"}, AskToSignIn("")),
    ],
)
def test_somebody_has_to_sign_in(
    decide: Callable[..., Choice], people: list[str], authority: str, wish: dict[str, str], expected: AskToSignIn
) -> None:
    assert decide(people, authority, **wish) == expected


@pytest.mark.parametrize(
    ("people", "authority", "wish"),
    [
        ([ADMIN, USER], "contoso.com", {}),
        ([ADMIN, OTHER], "organizations", {}),
        ([OTHER], "contoso.com", {}),
        ([ADMIN], "contoso.com", {"prompt": "select_account"}),
    ],
)
def test_somebody_has_to_be_chosen(
    decide: Callable[..., Choice], people: list[str], authority: str, wish: dict[str, str]
) -> None:
    assert isinstance(decide(people, authority, **wish), AskWhich)


@pytest.mark.parametrize(
    ("people", "authority", "wish", "name"),
    [
        ([ADMIN], "contoso.com", {}, ADMIN),
        ([ADMIN, OTHER], "contoso.com", {"prompt": "none"}, ADMIN),
        ([ADMIN, USER], "contoso.com", {"prompt": "none", "login_hint": USER.upper()}, USER),
        ([OTHER], "organizations", {"prompt": "none"}, OTHER),
        ([ADMIN], "contoso.com", {"prompt": "consent"}, ADMIN),
    ],
)
def test_it_is_clear_who_it_is(
    decide: Callable[..., Choice], people: list[str], authority: str, wish: dict[str, str], name: str
) -> None:
    found = decide(people, authority, **wish)

    assert isinstance(found, SignedInAs)
    assert isinstance(found.tenant, Tenant)
    assert found.member.user.user_principal_name == name
    assert found.tenant.id == found.member.user.tenant_id


@pytest.mark.parametrize(
    ("people", "authority", "hint", "code"),
    [
        ([], "contoso.com", "", 50058),
        ([ADMIN], "contoso.com", USER, 50058),
        ([OTHER], "contoso.com", "", 16000),
        ([ADMIN, USER], "contoso.com", "", 16000),
        ([ADMIN, OTHER], "organizations", "", 16000),
    ],
)
def test_silence_fails_where_a_page_would_be_needed(
    decide: Callable[..., Choice], people: list[str], authority: str, hint: str, code: int
) -> None:
    with pytest.raises(EntraError) as caught:
        decide(people, authority, prompt="none", login_hint=hint)

    assert caught.value.code == code
