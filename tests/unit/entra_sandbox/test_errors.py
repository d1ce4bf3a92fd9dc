"""Errors as they go out."""

from datetime import UTC, datetime

from entra_sandbox.aadsts import TABLE
from entra_sandbox.callbacks import encode
from entra_sandbox.errors import EntraError, Refusal


def test_a_description_ends_in_ids_and_time_on_lines_of_their_own() -> None:
    refusal = Refusal(
        error="access_denied",
        code=65004,
        message="User declined to consent to access the app.",
        status=400,
        correlation_id="c-1",
        trace_id="t-1",
        at=datetime(2019, 9, 24, 18, 34, 26, tzinfo=UTC),
    )

    assert refusal.description == (
        "AADSTS65004: User declined to consent to access the app.\r\n"
        "Trace ID: t-1\r\nCorrelation ID: c-1\r\nTimestamp: 2019-09-24 18:34:26Z"
    )
    assert encode({"error_description": refusal.description, "state": "a+b"}) == (
        "error_description=AADSTS65004%3a+User+declined+to+consent+to+access+the+app.%0d%0a"
        "Trace+ID%3a+t-1%0d%0aCorrelation+ID%3a+c-1%0d%0aTimestamp%3a+2019-09-24+18%3a34%3a26Z&state=a%2bb"
    )


def test_details_are_filled_in_and_what_is_not_known_stays_a_gap() -> None:
    error = EntraError(700016, client_id="id-1")

    assert "identifier 'id-1' was not found in the directory '{tenant}'" in error.message
    assert (error.error, error.status) == ("unauthorized_client", 400)


def test_a_code_that_is_not_in_the_table_can_be_played() -> None:
    error = EntraError(53003, error="interaction_required")

    assert error.refusal().body("https://login.example")["error_codes"] == [53003]
    assert error.error == "interaction_required"


def test_invalid_clients_are_401_on_the_wire_and_others_400() -> None:
    # These two are seen by browsers alone, as callbacks of a consent.
    callbacks = {650052, 650053}
    for code, entry in TABLE.items():
        expected = 401 if entry.error == "invalid_client" and code not in callbacks else 429 if code == 90055 else 400
        assert entry.status == expected, code
