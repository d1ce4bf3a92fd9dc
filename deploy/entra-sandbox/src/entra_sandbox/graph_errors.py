"""Errors in the form of Microsoft Graph."""

import uuid
from datetime import UTC, datetime
from typing import Self

from fastapi import Request


def request_ids(request: Request) -> dict[str, str]:
    """The headers by which a person can quote a request; the client's own id is repeated where it sent one."""
    request_id = str(uuid.uuid4())
    return {"request-id": request_id, "client-request-id": request.headers.get("client-request-id") or request_id}


class GraphError(Exception):
    """A request that Graph refuses."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    @classmethod
    def not_found(cls, name: str) -> Self:
        """The object does not exist in the tenant."""
        message = f"Resource '{name}' does not exist or one of its queried reference-property objects are not present."
        return cls(404, "Request_ResourceNotFound", message)

    def body(self, ids: dict[str, str]) -> dict[str, object]:
        """The JSON of the answer."""
        inner = {"date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), **ids}
        return {"error": {"code": self.code, "message": self.message, "innerError": inner}}
