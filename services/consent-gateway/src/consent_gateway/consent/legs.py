"""The legs of a run: where the browser is sent to consent and to prove, each time with a state of its own."""

import hashlib
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from consent_gateway.catalog.model import Catalog, PermissionSet
from consent_gateway.consent.attempts import Attempt, Leg
from consent_gateway.consent.neighbours import Entra
from consent_gateway.entra.answers import EntraFailed
from consent_gateway.entra.consequences import how_it_ends
from consent_gateway.errors import Kind, Refused

# What Entra's endpoints are asked for in the place of a tenant that nobody named.
ORGANIZATIONS = "organizations"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Where the browser comes back to, and how long things may take (seconds)."""

    public_url: str
    attempt_seconds: float
    wait_seconds: float
    verify_deadline_seconds: float

    @property
    def callback_uri(self) -> str:
        """The redirect URI of the admin-consent page."""
        return f"{self.public_url}/consent/callback"

    @property
    def proof_uri(self) -> str:
        """The redirect URI of the proof sign-in."""
        return f"{self.public_url}/consent/proof"


class Legs:
    """Makes legs. Nothing is written here."""

    def __init__(self, catalog: Catalog, rules: Rules, *, entra: Entra) -> None:
        self.rules = rules
        self._catalog = catalog
        self._entra = entra

    def next_sets(self, attempt: Attempt) -> tuple[PermissionSet, ...]:
        """The sets that the next Accept covers: those of one client registration."""
        sets = self._catalog.next_accepted(attempt.remaining)
        if not sets:
            raise Refused(Kind.INVALID, "The permission set is no longer in the catalogue.")
        return sets

    def all_sets(self, attempt: Attempt) -> tuple[PermissionSet, ...]:
        """The sets that still wait for their Accept."""
        self.next_sets(attempt)
        return tuple(self._catalog.sets[one] for one in attempt.remaining if one in self._catalog.sets)

    async def proof(
        self, attempt: Attempt, tenant_id: str | None, *, silent: bool, choose_account: bool = False
    ) -> tuple[str, Leg]:
        """A sign-in on the tenant, or on whichever one the person chooses; with a state, nonce and verifier of its own.

        Raises:
            EntraFailed: there is no such tenant, or no discovery document.
            Refused: invalid, none of the sets is in the catalogue any more.
        """
        client_id = self.next_sets(attempt)[0].client_id
        state = secrets.token_urlsafe(32)
        begun = await self._entra.begin_sign_in(
            tenant_id=tenant_id or ORGANIZATIONS,
            client_id=client_id,
            redirect_uri=self.rules.proof_uri,
            state=state,
            silent=silent,
            choose_account=choose_account,
        )
        leg = Leg(
            state_hash=hashed(state),
            client_id=client_id,
            tenant_id=tenant_id,
            silent=silent,
            nonce=begun.nonce,
            verifier=begun.verifier,
            scope=begun.scope,
        )
        return begun.url, leg

    async def consent(self, attempt: Attempt) -> tuple[str, Leg]:
        """The admin-consent page (https://learn.microsoft.com/entra/identity-platform/v2-admin-consent)."""
        permission_set = self.next_sets(attempt)[0]
        try:
            origin = await self._entra.authorization_origin()
        except EntraFailed as failed:
            raise Refused(how_it_ends(failed.answer.klass)) from None
        state = secrets.token_urlsafe(32)
        query = {
            "client_id": permission_set.client_id,
            "scope": permission_set.resources[0].scope,
            "redirect_uri": self.rules.callback_uri,
            "state": state,
        }
        url = f"{origin}/{attempt.tenant_id or ORGANIZATIONS}/v2.0/adminconsent?{urlencode(query)}"
        leg = Leg(state_hash=hashed(state), client_id=permission_set.client_id, tenant_id=attempt.tenant_id)
        return url, leg


def hashed(secret: str) -> str:
    """How states and link tokens are stored: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
