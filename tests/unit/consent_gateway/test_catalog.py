"""The catalogue is read strictly, and its default is the suite's five sets and ten apps."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from consent_gateway.catalog.file import load_catalog
from consent_gateway.catalog.model import MICROSOFT_GRAPH, ActiveCatalog, Catalog
from consent_gateway.errors import CatalogError
from support.gateway import CLIENT_IDS, SETS


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(None, CLIENT_IDS)


def test_the_default_has_the_sets_and_apps_of_the_suite(catalog: Catalog) -> None:
    assert tuple(catalog.sets) == SETS
    assert {name: len(one.permissions) for name, one in catalog.sets.items()} == dict(
        zip(SETS, (4, 18, 3, 5, 20), strict=True)
    )
    assert len(catalog.apps) == 10
    assert catalog.limited_apps(catalog.apps) == ("mobile-security",)
    assert len(catalog.sets["read-saas-posture"].resources) == 4
    assert all(one.resources[0].app_id == MICROSOFT_GRAPH for one in catalog.sets.values())
    assert all(len(p.reason) > 20 for one in catalog.sets.values() for p in one.permissions)
    delegated = {p.value for one in catalog.sets.values() for p in one.permissions if p.type == "delegated"}
    assert delegated == {"User.Read"}


def test_one_app_may_take_what_it_needs_from_any_of_several_sets(catalog: Catalog) -> None:
    (function,) = catalog.apps["user-accounts"].functions
    assert [need.permission_set_id for need in function.any_of] == list(catalog.apps["user-accounts"].sets)


def test_a_return_url_is_one_of_an_app_of_the_sets_to_the_letter(tmp_path: Path) -> None:
    catalog = load_catalog(_file(tmp_path, return_urls=["https://app.test/done"]), {"one": CLIENT_IDS[SETS[0]]})
    assert catalog.allows_return_to("https://app.test/done", ["one"])
    for url in ("https://app.test/done/", "https://app.test/done?x=1", "https://app.test.evil/done", ""):
        assert not catalog.allows_return_to(url, ["one"])
    assert not catalog.allows_return_to("https://app.test/done", [])


def test_a_deployments_return_urls_count_in_whichever_catalogue_is_active(tmp_path: Path) -> None:
    first = load_catalog(_file(tmp_path, return_urls=["https://app.test/done"]), {"one": CLIENT_IDS[SETS[0]]})
    (app_id,) = first.apps
    active = ActiveCatalog(first, return_urls={app_id: ["http://localhost:8092/"], "another": ["https://evil.test/"]})
    for _ in range(2):
        assert active.apps[app_id].return_urls == ("https://app.test/done", "http://localhost:8092/")
        assert active.allows_return_to("http://localhost:8092/", ["one"])
        assert not active.allows_return_to("https://evil.test/", ["one"])
        active.activate(first)


def _file(folder: Path, *, top: dict[str, Any] | None = None, **app: Any) -> Path:
    permission = {"resource": "graph", "value": "User.Read.All", "reason": "because"}
    content: dict[str, Any] = {
        "version": 1,
        "resources": {"graph": {"app_id": MICROSOFT_GRAPH, "identifier": "https://graph.test", "name": "Graph"}},
        "permission_sets": [
            {
                "id": "one",
                "title": "One",
                "description": "The one",
                "version": 1,
                "registration": "one",
                "permissions": [permission],
            }
        ],
        "apps": [{"id": "app", "name": "App", "description": "An app", "permission_sets": ["one"]} | app],
    }
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(content | (top or {})))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"top": {"version": "1"}}, "version: Input should be a valid integer"),
        ({"top": {"sets": []}}, "sets: Extra inputs are not permitted"),
        ({"top": {"resources": {}}}, "there is no resource 'graph'"),
        ({"permission_sets": ["two"]}, "app app: there is no permission set 'two'"),
        ({"tenant_limit": 2}, "apps.0.tenant_limit: Input should be 1"),
        ({"return_urls": ["javascript:alert(1)"]}, "apps.0.return_urls.0"),
        ({"functions": [{"id": "f", "title": "F", "any_of": [{}]}]}, "either a permission_set or permissions"),
        (
            {"functions": [{"id": "f", "title": "F", "any_of": [{"permission_set": "two"}]}]},
            "'two' is not a set of the app",
        ),
    ],
)
def test_a_wrong_file_is_one_readable_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CatalogError, match=says.replace(".", r"\.")) as refused:
        load_catalog(_file(tmp_path, **changes), {"one": CLIENT_IDS[SETS[0]]})
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path))


def test_every_registration_needs_a_client_id(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="CATALOG__CLIENT_IDS names no client id for the registration 'one'"):
        load_catalog(_file(tmp_path), {})


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00"])
def test_what_is_no_catalogue_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError) as refused:
        load_catalog(path, CLIENT_IDS)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(CatalogError, match=r"/nowhere\.yaml: No such file"):
        load_catalog(Path("/nowhere.yaml"), CLIENT_IDS)
