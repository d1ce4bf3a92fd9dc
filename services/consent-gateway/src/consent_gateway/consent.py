"""The use cases of the consent flow: start, callback, proof, and how a run ended (design section 4)."""

from collections.abc import Sequence

from consent_gateway.attempts import AttemptView, Ended, LinkView, Person, Redirect, Requester


class Consent:
    """The consent flow. Refusals are ``errors.Refused``; they leave every grant, link and slot as it was."""

    async def start(
        self,
        person: Person,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        return_url: str | None = None,
    ) -> str:
        """Begin a run, bound to the person's account and session. Returns the URL to send the browser to.

        ``tenant_id`` may come straight from a form.

        Raises:
            Refused: forbidden (role), invalid (an unknown set, a return URL that no app has), malformed (tenant id),
                entra_unavailable (no discovery document).
        """
        raise NotImplementedError

    async def callback(
        self, params: Sequence[tuple[str, str]], *, person: Person | None, session_hash: str | None
    ) -> Redirect | Ended:
        """Entra's answer to the admin-consent page; ``params`` are the decoded query pairs, in order.

        Raises:
            Refused: missing, unknown, expired, used, malformed, other_browser; nothing was written.
        """
        raise NotImplementedError

    async def prove(
        self, params: Sequence[tuple[str, str]], *, person: Person | None, session_hash: str | None
    ) -> Redirect | Ended:
        """The administrator's sign-in came back. Returns when the grant is verified, or was waited for long enough.

        Raises:
            Refused: as ``callback``.
        """
        raise NotImplementedError

    async def attempt(self, attempt_id: str, *, session_hash: str | None) -> AttemptView:
        """The run, for the browser session that made it.

        Raises:
            Refused: not_found, also for a session other than the attempt's.
        """
        raise NotImplementedError

    async def create_link(
        self,
        requester: Requester,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        return_url: str | None = None,
    ) -> tuple[AttemptView, str]:
        """An attempt that an app or an operator makes over the API, and the token of its ``/connect/{token}`` link.

        Raises:
            Refused: forbidden, invalid, malformed.
        """
        raise NotImplementedError

    async def open_link(self, token: str, person: Person) -> LinkView:
        """What a link asks for. Changes nothing.

        Raises:
            Refused: unknown (also for another account's link), expired, used, forbidden.
        """
        raise NotImplementedError

    async def follow_link(self, token: str, person: Person) -> str:
        """Bind the link's attempt to this browser session, once. Returns the URL to send the browser to.

        Raises:
            Refused: as ``open_link``, and as ``start``.
        """
        raise NotImplementedError
