"""The API's description: each body and each answer has an example, and none of them says what isn't so."""

from consent_gateway.app import create_app
from support.gateway import settings
from support.openapi import examples_of, unsound, without_example


def test_each_example_is_what_its_schema_says() -> None:
    document = create_app(settings()).openapi()
    assert sum(1 for _ in examples_of(document)) > 10
    assert unsound(document) == []
    assert without_example(document) == []


def test_an_example_that_is_not_so_is_found() -> None:
    document = create_app(settings()).openapi()
    schema = document["components"]["schemas"]["ChecksAccepted"]
    schema["example"] = {"status": "accepted", "grants": "many", "colour": "blue"}
    assert len(unsound(document)) == 2
    del schema["example"]
    assert without_example(document) == ["POST /v1/checks 202"]
