"""The errors of Entra ID as they go out: description, ids and time, as JSON or as parameters of a redirect."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

from entra_sandbox.aadsts import TABLE, Aadsts


class _Blank(dict[str, str]):
    """Leaves a gap for a value that the caller did not have."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"


@dataclass(frozen=True)
class Refusal:
    """An error as it goes out: with ids that a person can quote, and the moment it happened."""

    error: str
    code: int
    message: str
    status: int
    correlation_id: str
    trace_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def timestamp(self) -> str:
        """`2019-09-24 18:34:26Z`, the form that Entra uses."""
        return self.at.strftime("%Y-%m-%d %H:%M:%SZ")

    @property
    def description(self) -> str:
        """`AADSTSn: text`, then ids and time on lines of their own, ended by CR LF as Entra does."""
        lines = (
            f"AADSTS{self.code}: {self.message}",
            f"Trace ID: {self.trace_id}",
            f"Correlation ID: {self.correlation_id}",
            f"Timestamp: {self.timestamp}",
        )
        return "\r\n".join(lines)

    def error_uri(self, login_url: str) -> str:
        """Where a person could look the code up."""
        return f"{login_url}/error?code={self.code}"

    def body(self, login_url: str) -> dict[str, object]:
        """The JSON of the token and discovery endpoints."""
        return {
            "error": self.error,
            "error_description": self.description,
            "error_codes": [self.code],
            "timestamp": self.timestamp,
            "trace_id": self.trace_id,
            "correlation_id": self.correlation_id,
            "error_uri": self.error_uri(login_url),
        }


class EntraError(Exception):
    """A request that Entra refuses. `error`, `status` and `message` come from the table unless given."""

    def __init__(
        self,
        code: int,
        *,
        error: str | None = None,
        status: int | None = None,
        message: str | None = None,
        **details: str,
    ) -> None:
        known = TABLE.get(code, Aadsts("invalid_request", "The sandbox was told to answer with this code."))
        self.code = code
        self.error = error or known.error
        self.status = status or known.status
        self.message = message or known.text.format_map(_Blank(details))
        super().__init__(f"AADSTS{code}: {self.message}")

    def refusal(self, correlation_id: str | None = None) -> Refusal:
        """The error as it goes out; the client's own correlation id is repeated where it sent one."""
        return Refusal(
            error=self.error,
            code=self.code,
            message=self.message,
            status=self.status,
            correlation_id=correlation_id or str(uuid.uuid4()),
        )
