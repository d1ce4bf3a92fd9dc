"""The part of OData that is understood."""

import pytest

from entra_sandbox import odata
from entra_sandbox.graph_errors import GraphError

ENTRIES = [{"@odata.type": "t", "id": str(number), "even": number % 2 == 0, "name": "O'Neil"} for number in range(5)]


def test_pages_follow_each_other_without_gap() -> None:
    query = {"$top": "2", "$select": "id"}
    found, following = odata.page(query, ENTRIES, default_size=100)
    seen = list(found)
    while following:
        found, following = odata.page({**query, "$skiptoken": following}, ENTRIES, default_size=100)
        seen += found

    assert [item["id"] for item in seen] == ["0", "1", "2", "3", "4"]
    assert set(seen[0]) == {"id", "@odata.type"}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("id eq '3'", ["3"]),
        ("even eq true and name eq 'O''Neil'", ["0", "2", "4"]),
        ("(even eq false)", ["1", "3"]),
        ("id eq 'nobody'", []),
    ],
)
def test_filters(text: str, ids: list[str]) -> None:
    found, _ = odata.page({"$filter": text}, ENTRIES, default_size=100)

    assert [item["id"] for item in found] == ids


@pytest.mark.parametrize(
    "query",
    [
        {"$filter": "startswith(id,'1')"},
        {"$filter": "id ne '1'"},
        {"$filter": "id eq 1"},
        {"$select": "colour"},
        {"$top": "0"},
        {"$top": "1000"},
        {"$top": "-1"},
        {"$skiptoken": "x"},
    ],
)
def test_what_is_not_understood_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(GraphError) as caught:
        odata.page(query, ENTRIES, default_size=100)

    assert caught.value.status == 400
