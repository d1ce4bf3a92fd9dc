"""What is told of the suite's own credentials, and whom."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI, Request

from consent_gateway.entra.credential_expiry import Ending
from consent_gateway.web import api_credentials
from shared import problems
from shared.auth import Principal

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ENDING = Ending(
    registration="read-directory-data",
    client_id="5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01",
    credential="current",
    kind="secret",
    fingerprint="f0e1",
    expires_at=NOW + timedelta(days=16, hours=5),
)


@pytest.mark.parametrize(
    ("role", "status"), [("admin", 200), ("staff", 200), ("operator", 403), ("viewer", 403), ("app", 403)]
)
async def test_who_can_see_to_a_credential_is_told_that_it_ends(role: str, status: int) -> None:
    async def caller(_: Request) -> Principal:
        account = None if role in {"staff", "app"} else "northwind"
        app = "search" if role == "app" else None
        return Principal(
            subject="s", account_id=account, account_name=None, app_id=app, roles=frozenset({role}), expires_at=0
        )

    app = FastAPI()
    problems.install(app)
    app.include_router(api_credentials.router(caller, endings=lambda: [ENDING], clock=lambda: NOW))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client:
        answer = await client.get("/v1/credentials")
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["items"] == [
            {
                "registration": ENDING.registration,
                "client_id": ENDING.client_id,
                "credential": "current",
                "expires_at": "2026-12-10T05:00:00Z",
                "days_left": 16,
            }
        ]
