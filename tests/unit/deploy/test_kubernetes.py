"""deploy/kubernetes, held against the code that it runs and against itself."""

import ast
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from shared import web
from support.deployment import IMAGE_ENVIRONMENT, PACKAGES, ROOT, SERVICES, manifests, settings_class, variables

FOLDER = ROOT / "deploy" / "kubernetes"
OBJECTS = manifests()
SECRETS = list(yaml.safe_load_all((FOLDER / "secrets.example.yaml").read_text()))
WORKLOADS = {o["metadata"]["name"]: o for o in OBJECTS if o["kind"] in {"Deployment", "Job"}}


def named(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [o for o in [*OBJECTS, *SECRETS] if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return found


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    assert isinstance(only, dict)
    return only


def environment(name: str) -> dict[str, str]:
    """What the container's process sees: env over envFrom, later sources over earlier ones."""
    seen: dict[str, str] = {}
    for source in container(name).get("envFrom", []):
        if "configMapRef" in source:
            seen |= named("ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            seen |= named("Secret", source["secretRef"]["name"])["stringData"]
    return seen | {variable["name"]: variable["value"] for variable in container(name).get("env", [])}


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_accepts_its_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in os.environ:
        monkeypatch.delenv(variable)
    for variable, value in {**IMAGE_ENVIRONMENT, **environment(name)}.items():
        monkeypatch.setenv(variable, value)
    settings_class(name)()


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_variable_is_one_that_the_workload_does_not_read(name: str) -> None:
    assert set(environment(name)) <= set(variables(settings_class(name)))


def test_nothing_secret_lies_in_what_is_applied() -> None:
    assert not [o for o in OBJECTS if o["kind"] == "Secret"]
    for o in OBJECTS:
        if o["kind"] == "ConfigMap":
            assert not [key for key in o["data"] if "SECRET" in key or "PASSWORD" in key or key == "MONGO__URL"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    spec, own = pod(name), container(name)["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001  # that of deploy/Dockerfile
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    # Kubernetes would set NOTIFIER_PORT and the like for every Service of the namespace.
    assert spec["enableServiceLinks"] is False
    assert {"cpu", "memory"} <= set(container(name)["resources"]["requests"])
    assert "memory" in container(name)["resources"]["limits"]


@pytest.mark.parametrize("name", SERVICES)
def test_probes_ask_what_the_service_answers(name: str) -> None:
    own = container(name)
    (port,) = own["ports"]
    assert str(port["containerPort"]) == environment(name)["HTTP__PORT"]
    for probe in ("startupProbe", "livenessProbe"):
        assert own[probe]["httpGet"] == {"path": "/livez", "port": port["name"]}
    # A check has three seconds; a probe that gives up earlier would not hear which one failed.
    assert own["readinessProbe"]["timeoutSeconds"] > web.CHECK_TIMEOUT_SECONDS
    asked = urlsplit(own["readinessProbe"]["httpGet"]["path"])
    assert asked.path == "/readyz"
    excluded = set(parse_qs(asked.query)["exclude"])
    checks = _checks(name)
    assert excluded < checks
    assert "mongo" not in excluded


def _checks(name: str) -> set[str]:
    """The names of the readiness checks in a service's composition root."""
    source = (ROOT / "services" / name / "src" / PACKAGES[name] / "app.py").read_text()
    return {
        key.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign | ast.keyword) and isinstance(node.value, ast.Dict)
        if "checks" in (node.arg or "" if isinstance(node, ast.keyword) else ast.unparse(node.targets[0]))
        for key in node.value.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_has_time_to_finish_what_is_in_flight(name: str) -> None:
    # uvicorn's ten seconds for requests, the consumer's and the producer's own for what they hold.
    before = container(name)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(name)["terminationGracePeriodSeconds"] >= before + 45


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_survives_the_loss_of_a_node_and_a_rollout(name: str) -> None:
    spec = WORKLOADS[name]["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert named("Service", name)["spec"]["selector"].items() <= labels.items()
    budget = named("PodDisruptionBudget", name)["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert budget["maxUnavailable"] == 1


def test_services_find_each_other() -> None:
    gateway = environment("consent-gateway")
    for variable in ("REGISTRY_URL", "NOTIFIER_URL"):
        target = urlsplit(gateway[variable])
        (port,) = named("Service", str(target.hostname))["spec"]["ports"]
        assert (target.port or 80) == port["port"]
        assert port["targetPort"] == container(str(target.hostname))["ports"][0]["name"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_volume_comes_from_something_that_is_named(name: str) -> None:
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    for mount in container(name)["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            named("ConfigMap", volume["configMap"]["name"])
        if "secret" in volume:
            named("Secret", volume["secret"]["secretName"])
    mounted = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
    for variable, value in environment(name).items():
        if value.startswith("/"):
            assert any(value.startswith(path) for path in mounted), f"{variable}={value}"


def test_images_are_the_ones_that_the_kustomization_names() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    tags = {image["name"]: image["newTag"] for image in kustomization["images"]}
    assert {container(name)["image"] for name in WORKLOADS} == set(tags)
    assert "latest" not in tags.values()
    written = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "secrets.example.yaml"}
    assert written == set(kustomization["resources"])


def test_a_broker_may_be_lost_without_a_stop_and_without_a_loss() -> None:
    topics = environment("topics")
    assert topics["TOPICS__REPLICATION_FACTOR"] == "3"
    assert topics["TOPICS__MIN_INSYNC_REPLICAS"] == "2"


def test_nothing_is_reachable_that_no_policy_lists() -> None:
    policies = [o["spec"] for o in OBJECTS if o["kind"] == "NetworkPolicy"]
    (denial,) = [
        spec for spec in policies if spec["podSelector"] == {} and "ingress" not in spec and "egress" not in spec
    ]
    assert denial["policyTypes"] == ["Ingress", "Egress"]
    # Webhooks are the notifier's: what it may reach outside is the public internet alone.
    for spec in policies:
        if _selects(spec["podSelector"], "notifier"):
            for rule in spec.get("egress", []):
                for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(block["except"])


def _selects(selector: dict[str, Any], name: str) -> bool:
    key = "app.kubernetes.io/name"
    if selector.get("matchLabels", {}).get(key, name) != name:
        return False
    return all(name in e["values"] for e in selector.get("matchExpressions", []) if e["key"] == key)
