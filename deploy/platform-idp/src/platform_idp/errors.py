"""The two ways in which this issuer says no."""


class OAuthError(Exception):
    """An error that its client reads as JSON (RFC 6749, section 5.2).

    ``error`` is a code of the RFC; ``description`` is for the developer and names the parameter.
    """

    def __init__(self, error: str, description: str, *, status: int = 400, challenge: bool = False) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.challenge = challenge


class AuthorizationRefused(Exception):
    """An error that goes back to the client through the browser (RFC 6749, section 4.1.2.1)."""

    def __init__(self, error: str, description: str, *, redirect_uri: str, state: str | None) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.redirect_uri = redirect_uri
        self.state = state


class UntrustedRequest(Exception):
    """A request whose client or redirect URI is not known: the browser must not be sent anywhere.

    The message is shown to the person at the browser.
    """
