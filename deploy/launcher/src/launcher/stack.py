"""What runs on one machine, and how each part is told about the others: the composition of the whole system."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from launcher.addresses import Addresses
from launcher.folder import StackFolder
from launcher.jars import Progress
from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo
from launcher.parts import HttpService, Job
from launcher.ports import LOOPBACK
from launcher.supervisor import Member

TOPICS_JOB = Path(__file__).resolve().parents[3] / "topics.py"
AUDIENCE = "consent-platform"
# Made-up values of the demonstration; the sandbox and the issuer hold the other halves.
HOME_TENANT_ID = "c3a9e0d4-75b1-4e6c-8d2f-91b7a4f0e356"
ENTRA_CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - known to everyone
CONSOLE_CLIENT_ID = "consent-console"
CONSOLE_CLIENT_SECRET = "console-demo-secret"  # noqa: S105 - known to everyone
APP_CLIENT_SECRET = "app-demo-secret"  # noqa: S105 - known to everyone
# Between them they are associated with every permission set, and the first may use one tenant only.
SAMPLE_APP_IDS = "mobile-security,identity-security,zero-trust-secure-access,cyber-risk-exposure-management"
CLIENT_IDS = {
    "read-directory-data": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01",
    "read-activity-data": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a02",
    "manage-accounts": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a03",
    "read-protected-content": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a04",
    "read-saas-posture": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a05",
}


def members(folder: StackFolder, addresses: Addresses, *, progress: Progress | None = None) -> list[Member]:
    """All parts of the stack with what each needs before it can start.

    Args:
        folder: holds data, logs and secrets of the stack.
        addresses: the ports.
        progress: told of the download of Kafka's archives.
    """
    ports = addresses.ports
    mongo = EmbeddedMongo(data_dir=folder.path / "mongo", log_file=folder.logs / "mongod.log", port=ports["mongod"])
    kafka = EmbeddedKafka(
        data_dir=folder.path / "kafka",
        log_file=folder.logs / "kafka.log",
        port=ports["kafka"],
        controller_port=ports["kafka-controller"],
        progress=progress,
    )
    common = _common(addresses, mongo_url=mongo.url, bootstrap_servers=kafka.bootstrap_servers)

    def service(name: str, package: str, port: str, env: Mapping[str, str]) -> HttpService:
        return HttpService(
            name,
            argv=[sys.executable, "-m", package],
            env={**_process(), "HTTP__HOST": LOOPBACK, "HTTP__PORT": str(ports[port]), **env},
            port=ports[port],
            log_file=folder.logs / f"{name}.log",
            cwd=folder.path,
        )

    topics = Job(
        "topics",
        argv=[sys.executable, str(TOPICS_JOB)],
        env={
            **_process(),
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "TOPICS__REPLICATION_FACTOR": "1",
            "TOPICS__MIN_INSYNC_REPLICAS": "1",
        },
        log_file=folder.logs / "topics.log",
    )
    gateway = service("consent-gateway", "consent_gateway", "gateway", common | _gateway(folder, addresses))
    registry = service("tenant-registry", "tenant_registry", "registry", common | _registry(addresses))
    notifier = service("notifier", "notifier", "notifier", common | _notifier(folder, addresses))
    return [
        Member(name="mongod", part=mongo),
        Member(name="kafka", part=kafka),
        Member(
            name="entra-sandbox", part=service("entra-sandbox", "entra_sandbox", "sandbox", _sandbox(folder, addresses))
        ),
        Member(name="platform-idp", part=service("platform-idp", "platform_idp", "idp", _idp(folder, addresses))),
        # It waits for the broker itself, so its start-up falls into the broker's.
        Member(name="topics", part=topics, once=True),
        # It keeps what happens while Kafka is away, so it need not wait for it.
        Member(
            name="consent-gateway",
            part=gateway,
            needs=["mongod", "entra-sandbox", "platform-idp"],
            uses=["kafka", "topics"],
        ),
        Member(name="tenant-registry", part=registry, needs=["mongod", "kafka", "topics"]),
        Member(name="notifier", part=notifier, needs=["mongod", "kafka", "topics"]),
        Member(
            name="sample-app",
            part=service("sample-app", "sample_app", "app", _sample_app(folder, addresses)),
            needs=["platform-idp", "notifier", "tenant-registry"],
        ),
    ]


def issuer(addresses: Addresses) -> str:
    """The issuer of the platform's tokens."""
    return addresses.url("idp")


def _process() -> dict[str, str]:
    """What every Python process gets of the shell's environment: nothing but where programs are.

    Proxies and certificate authorities of the shell must not reach the services: all they talk to is on this machine,
    and the gateway trusts the sandbox by ``ENTRA__CA_BUNDLE`` alone.
    """
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def _common(addresses: Addresses, *, mongo_url: str, bootstrap_servers: str) -> dict[str, str]:
    return {
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        "MONGO__URL": mongo_url,
        "AUTH__ISSUER": issuer(addresses),
        "AUTH__AUDIENCE": AUDIENCE,
        "AUTH__JWKS_URL": f"{issuer(addresses)}/.well-known/jwks.json",
    }


def _gateway(folder: StackFolder, addresses: Addresses) -> dict[str, str]:
    return {
        "PUBLIC_URL": addresses.url("gateway"),
        "MONGO__DATABASE": "consent_gateway",
        "ENTRA__LOGIN_URL": addresses.url("sandbox-login", scheme="https"),
        "ENTRA__GRAPH_URL": addresses.url("sandbox-graph", scheme="https"),
        "ENTRA__CA_BUNDLE": str(_sandbox_folder(folder) / "ca.pem"),
        "ENTRA__HOME_TENANT_ID": HOME_TENANT_ID,
        "ENTRA__CLIENT_SECRET": ENTRA_CLIENT_SECRET,
        "CATALOG__CLIENT_IDS": json.dumps(CLIENT_IDS),
        "CATALOG__RETURN_URLS": json.dumps({app: [f"{addresses.url('app')}/"] for app in SAMPLE_APP_IDS.split(",")}),
        "REGISTRY_URL": addresses.url("registry"),
        "NOTIFIER_URL": addresses.url("notifier"),
        "CONSOLE__ISSUER": issuer(addresses),
        "CONSOLE__CLIENT_ID": CONSOLE_CLIENT_ID,
        "CONSOLE__CLIENT_SECRET": CONSOLE_CLIENT_SECRET,
        "CONSOLE__SESSION_SECRET": folder.secrets()["CONSOLE__SESSION_SECRET"],
    }


def _registry(addresses: Addresses) -> dict[str, str]:
    return {"PUBLIC_URL": addresses.url("registry"), "MONGO__DATABASE": "tenant_registry"}


def _notifier(folder: StackFolder, addresses: Addresses) -> dict[str, str]:
    return {
        "PUBLIC_URL": addresses.url("notifier"),
        "MONGO__DATABASE": "notifier",
        "DELIVERY__SECRETS_KEY": folder.secrets()["DELIVERY__SECRETS_KEY"],
        # The sample app listens on this machine.
        "DELIVERY__ALLOW_PRIVATE_NETWORKS": "true",
    }


def _sandbox_folder(folder: StackFolder) -> Path:
    return folder.path / "entra-sandbox"


def _sandbox(folder: StackFolder, addresses: Addresses) -> dict[str, str]:
    return {
        "HTTP__HOST": "localhost",
        "PUBLIC_URL": addresses.url("sandbox"),
        "LOGIN__PORT": str(addresses.ports["sandbox-login"]),
        "GRAPH__PORT": str(addresses.ports["sandbox-graph"]),
        "DATA_DIR": str(_sandbox_folder(folder)),
        "GATEWAY__PUBLIC_URLS": addresses.url("gateway"),
    }


def _idp(folder: StackFolder, addresses: Addresses) -> dict[str, str]:
    console = addresses.url("gateway")
    return {
        "ISSUER": issuer(addresses),
        "AUDIENCE": AUDIENCE,
        "DATA_DIR": str(folder.path / "platform-idp"),
        "CONSOLE__CLIENT_ID": CONSOLE_CLIENT_ID,
        "CONSOLE__CLIENT_SECRET": CONSOLE_CLIENT_SECRET,
        "CONSOLE__REDIRECT_URIS": json.dumps([f"{console}/auth/callback"]),
        "CONSOLE__POST_LOGOUT_REDIRECT_URIS": json.dumps([console, f"{console}/", f"{console}/integrations"]),
        "APPS__CLIENT_SECRET": APP_CLIENT_SECRET,
    }


def _sample_app(folder: StackFolder, addresses: Addresses) -> dict[str, str]:
    return {
        "PUBLIC_URL": addresses.url("app"),
        "APP_ID": SAMPLE_APP_IDS,
        "CLIENT_SECRET": APP_CLIENT_SECRET,
        "ISSUER": issuer(addresses),
        "GATEWAY_URL": addresses.url("gateway"),
        "NOTIFIER_URL": addresses.url("notifier"),
        "DATA_DIR": str(folder.path / "sample-app"),
    }
