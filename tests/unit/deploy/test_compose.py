"""docker-compose.yml, held against the code that it starts."""

import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from launcher import stack
from support.deployment import IMAGE_ENVIRONMENT, PACKAGES, ROOT, SERVICES, compose, settings_class, variables

MEMBERS = [*PACKAGES, "topics"]
JOBS = ("replica-set", "topics")


@pytest.fixture
def document() -> dict[str, Any]:
    return compose()


def environment(document: dict[str, Any], name: str) -> dict[str, str]:
    given = document["services"][name].get("environment", {})
    return {variable: str(value) for variable, value in given.items()}


@pytest.mark.parametrize("member", MEMBERS)
def test_every_part_accepts_its_environment(
    member: str, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in {**IMAGE_ENVIRONMENT, **environment(document, member)}.items():
        monkeypatch.setenv(name, value)
    settings_class(member)()


@pytest.mark.parametrize("member", MEMBERS)
def test_no_variable_is_one_that_its_part_does_not_read(member: str, document: dict[str, Any]) -> None:
    known = set(variables(settings_class(member)))
    assert set(environment(document, member)) <= known


def test_the_two_sides_of_every_agreement_say_the_same(document: dict[str, Any]) -> None:
    gateway, sandbox, idp, app = (
        environment(document, name) for name in ("consent-gateway", "entra-sandbox", "platform-idp", "sample-app")
    )
    assert gateway["ENTRA__LOGIN_URL"] == sandbox["LOGIN__PUBLIC_URL"]
    assert gateway["ENTRA__GRAPH_URL"] == sandbox["GRAPH__PUBLIC_URL"]
    assert sandbox["TLS__HOSTS"] == urlsplit(gateway["ENTRA__LOGIN_URL"]).hostname
    assert sandbox["TLS__HOSTS"] == urlsplit(gateway["ENTRA__GRAPH_URL"]).hostname
    assert sandbox["GATEWAY__PUBLIC_URLS"] == gateway["PUBLIC_URL"]
    assert gateway["CONSOLE__CLIENT_ID"] == idp["CONSOLE__CLIENT_ID"]
    assert gateway["CONSOLE__CLIENT_SECRET"] == idp["CONSOLE__CLIENT_SECRET"]
    assert json.loads(idp["CONSOLE__REDIRECT_URIS"]) == [f"{gateway['PUBLIC_URL']}/auth/callback"]
    assert all(url.startswith(gateway["PUBLIC_URL"]) for url in json.loads(idp["CONSOLE__POST_LOGOUT_REDIRECT_URIS"]))
    assert app["CLIENT_SECRET"] == idp["APPS__CLIENT_SECRET"]
    assert app["GATEWAY_URL"] == gateway["PUBLIC_URL"]
    assert gateway["CONSOLE__ISSUER"] == idp["ISSUER"]
    assert gateway["CONSOLE__METADATA_URL"] == f"{idp['BACKCHANNEL_URL']}/.well-known/openid-configuration"
    for name in SERVICES:
        service = environment(document, name)
        assert service["AUTH__ISSUER"] == idp["ISSUER"]
        assert service["AUTH__AUDIENCE"] == idp["AUDIENCE"]
        assert service["AUTH__JWKS_URL"] == f"{idp['BACKCHANNEL_URL']}/.well-known/jwks.json"


def test_containers_and_the_launcher_run_the_same_demonstration(document: dict[str, Any]) -> None:
    gateway, app = environment(document, "consent-gateway"), environment(document, "sample-app")
    assert json.loads(gateway["CATALOG__CLIENT_IDS"]) == stack.CLIENT_IDS
    assert gateway["ENTRA__HOME_TENANT_ID"] == stack.HOME_TENANT_ID
    assert gateway["ENTRA__CLIENT_SECRET"] == stack.ENTRA_CLIENT_SECRET
    assert gateway["AUTH__AUDIENCE"] == stack.AUDIENCE
    assert app["APP_ID"] == stack.SAMPLE_APP_IDS
    assert json.loads(gateway["CATALOG__RETURN_URLS"]).keys() == {*stack.SAMPLE_APP_IDS.split(",")}


def test_urls_between_containers_name_a_service_and_the_port_it_listens_on(document: dict[str, Any]) -> None:
    listening = {
        name: {value for variable, value in environment(document, name).items() if variable.endswith("__PORT")}
        for name in PACKAGES
    }
    listening["entra-sandbox"] |= {"8443", "8444"}
    seen = 0
    for name in PACKAGES:
        for variable, value in environment(document, name).items():
            for host, port in re.findall(r"https?://([a-z-]+):(\d+)", value):
                if host != "localhost":
                    assert port in listening[host], f"{name}: {variable}={value}"
                    seen += 1
    assert seen >= 10


def test_ports_are_published_on_the_loopback_address_only_and_meet_the_listener(document: dict[str, Any]) -> None:
    published = {}
    for name, service in document["services"].items():
        for mapping in service.get("ports", []):
            address, outside, inside = mapping.split(":")
            assert address == "127.0.0.1", f"{name}: {mapping}"
            published[name] = (outside, inside)
            if name in PACKAGES:
                assert inside == environment(document, name)["HTTP__PORT"]
    assert set(published) == {*PACKAGES, "kafka", "mongo"}
    assert len({outside for outside, _ in published.values()}) == len(published)


def test_a_moved_port_moves_every_url_that_a_browser_sees() -> None:
    moved = {"GATEWAY_PORT": "9080", "SANDBOX_PORT": "9090", "IDP_PORT": "9091", "SAMPLE_APP_PORT": "9092"}
    moved |= {"REGISTRY_PORT": "9081", "NOTIFIER_PORT": "9082", "KAFKA_PORT": "9192", "MONGO_PORT": "9017"}
    text = yaml.safe_dump(compose(moved)["services"])
    seen = set(re.findall(r"localhost:(\d+)", text)) - {"9093"}  # Kafka's controller, inside its container
    assert seen <= set(moved.values())
    assert {"9080", "9090", "9091", "9192"} <= seen


def test_images_are_pinned_and_ours_are_built_from_the_one_dockerfile(document: dict[str, Any]) -> None:
    built = [service["image"] for service in document["services"].values() if "build" in service]
    assert len(built) == len(set(built))  # two builds of one name at once get in each other's way
    for name, service in document["services"].items():
        repository, _, tag = service["image"].partition(":")
        assert tag not in {"", "latest"}, name
        if name in {"kafka", "mongo"}:
            assert "build" not in service
            continue
        assert repository.startswith("consent-platform/")
        build = service["build"]
        assert build["dockerfile"] == "deploy/Dockerfile"
        if name in JOBS:
            assert build["target"] == name
        else:
            folder = build["args"]["MEMBER"]
            assert folder.rpartition("/")[2] == name
            assert (ROOT / folder / "pyproject.toml").is_file()
            assert build["args"].get("LOCK", "services") == ("services" if name in SERVICES else "stand-ins")


def test_our_containers_have_no_more_rights_than_they_need(document: dict[str, Any]) -> None:
    for name in (*PACKAGES, *JOBS):
        service = document["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        assert "user" not in service  # the image's own, which is not root


def test_what_must_survive_lies_in_named_volumes(document: dict[str, Any]) -> None:
    def targets(name: str) -> set[str]:
        volumes = document["services"][name].get("volumes", [])
        return {volume["target"] if isinstance(volume, dict) else volume.split(":")[1] for volume in volumes}

    for name in ("entra-sandbox", "platform-idp", "sample-app"):
        assert environment(document, name)["DATA_DIR"] in targets(name)
    assert environment(document, "kafka")["KAFKA_LOG_DIRS"] in targets("kafka")
    assert "/data/db" in targets("mongo")
    named = {
        volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
        for service in document["services"].values()
        for volume in service.get("volumes", [])
    }
    assert named == set(document["volumes"])


def test_the_gateway_reads_the_authority_that_the_sandbox_writes(document: dict[str, Any]) -> None:
    (mount,) = document["services"]["consent-gateway"]["volumes"]
    assert mount["source"] == "entra-sandbox"
    assert mount["read_only"] is True
    assert environment(document, "consent-gateway")["ENTRA__CA_BUNDLE"] == f"{mount['target']}/ca.pem"


def test_everything_that_runs_is_restarted_and_says_how_it_is(document: dict[str, Any]) -> None:
    for name, service in document["services"].items():
        if name in JOBS:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert "healthcheck" in service, name
        if name in PACKAGES:
            assert service["healthcheck"]["test"][-2:] == ["/opt/probe.py", "/readyz"]


def test_services_start_after_the_jobs_that_they_rely_on(document: dict[str, Any]) -> None:
    services = document["services"]
    for name in SERVICES:
        for job in JOBS:
            assert services[name]["depends_on"][job] == {"condition": "service_completed_successfully"}
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services, name
            assert condition["condition"] != "service_healthy" or "healthcheck" in services[needed]


def test_the_file_is_one_that_both_generations_of_compose_read(document: dict[str, Any]) -> None:
    # The first knows neither `name` nor `develop` nor `include`; the second warns of `version`.
    allowed = {"services", "volumes"}
    assert {key for key in document if not key.startswith("x-")} == allowed
    for name, service in document["services"].items():
        unknown_to_the_first = {"develop", "provider", "attach", "annotations", "post_start", "pre_stop", "models"}
        assert not unknown_to_the_first & set(service), name


def test_the_broker_reaches_itself_by_a_name_that_containers_know(document: dict[str, Any]) -> None:
    kafka = environment(document, "kafka")
    listeners = dict(part.split("://") for part in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    inside = listeners[kafka["KAFKA_INTER_BROKER_LISTENER_NAME"]]
    assert inside == "kafka:19092"
    for name in (*SERVICES, "topics"):
        assert environment(document, name)["KAFKA__BOOTSTRAP_SERVERS"] == inside
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
