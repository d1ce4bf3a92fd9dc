"""Who a request is for: decided from the browser's session, the tenant and what the client asked (pure)."""

from dataclasses import dataclass

from entra_sandbox.directory import Authority, Directory
from entra_sandbox.errors import EntraError
from entra_sandbox.model import Member, Registration, Tenant, User
from entra_sandbox.sessions import BrowserSession

PERSONAL_DOMAINS = frozenset({"outlook.com", "hotmail.com", "live.com", "msn.com"})


@dataclass(frozen=True)
class AskToSignIn:
    """The person has to give a name and a password."""

    name: str = ""


@dataclass(frozen=True)
class AskWhich:
    """The person has to say which of the signed-in accounts to use."""

    people: tuple[User, ...]


@dataclass(frozen=True)
class SignedInAs:
    """It is clear who it is, and in which tenant."""

    member: Member
    tenant: Tenant


Choice = AskToSignIn | AskWhich | SignedInAs


@dataclass(frozen=True)
class Wish:
    """What the client asked of the sign-in."""

    registration: Registration
    prompt: str = ""
    login_hint: str = ""

    @property
    def silent(self) -> bool:
        """`prompt=none`: no page may be shown."""
        return self.prompt == "none"


def people_of(directory: Directory, session: BrowserSession) -> tuple[User, ...]:
    """Those of a session who still exist."""
    return tuple(user for item in session.people if (user := directory.users.get(item.object_id)))


def choose(directory: Directory, session: BrowserSession, authority: Authority, wish: Wish) -> Choice:
    """Decides who it is, or what has to be asked.

    Raises:
        EntraError: `prompt=none` and nobody (50058), or not exactly one fitting person (16000).
    """
    people = people_of(directory, session)
    hint = wish.login_hint.strip().lower()
    if hint:
        people = tuple(user for user in people if user.user_principal_name.lower() == hint)
    if wish.prompt == "login":
        return AskToSignIn(hint)
    if wish.prompt == "select_account" and people:
        return AskWhich(people_of(directory, session))
    if not people:
        if wish.silent:
            raise EntraError(50058)
        return AskToSignIn(hint)
    fitting = [user for user in people if _home(directory, authority, user)]
    if len(fitting) == 1:
        return enter(directory, authority, fitting[0], wish.registration)
    if wish.silent:
        raise _not_silent(authority, people, wish.registration, several=len(fitting) > 1)
    return AskWhich(people)


def enter(directory: Directory, authority: Authority, user: User, registration: Registration) -> SignedInAs:
    """The person in the tenant of the request: the named one, or the person's own under a shared name.

    Raises:
        EntraError: 50020, the tenant does not know the person.
    """
    found = _home(directory, authority, user)
    if found is None:
        raise stranger(authority, user.user_principal_name, f"https://sts.windows.net/{user.tenant_id}/", registration)
    return found


def stranger(
    authority: Authority, name: str, provider: str, registration: Registration, *, code: int = 50020
) -> EntraError:
    """The refusal of a person whom the tenant does not know."""
    tenant = authority.display_name if isinstance(authority, Tenant) else authority
    return EntraError(
        code,
        user=name,
        provider=provider,
        tenant=tenant,
        client_id=registration.client_id,
        app=registration.display_name,
    )


def _home(directory: Directory, authority: Authority, user: User) -> SignedInAs | None:
    tenant = authority if isinstance(authority, Tenant) else directory.tenants.get(user.tenant_id)
    member = tenant and directory.member(user, tenant)
    return SignedInAs(member, tenant) if tenant and member else None


def _not_silent(
    authority: Authority, people: tuple[User, ...], registration: Registration, *, several: bool
) -> EntraError:
    if several:
        message = (
            "Either multiple user identities are available for the current request or selected account is not "
            "supported for the scenario."
        )
        return EntraError(16000, message=message)
    user = people[0]
    return stranger(
        authority, user.user_principal_name, f"https://sts.windows.net/{user.tenant_id}/", registration, code=16000
    )
