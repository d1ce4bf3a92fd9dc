"""The gateway's core on a real database, in front of an Entra of the test's choice; without HTTP and without Kafka."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from consent_gateway.consent.attempts import Person
from consent_gateway.settings import (
    CatalogSettings,
    ConsentSettings,
    ConsoleSettings,
    DriftSettings,
    EntraSettings,
    Settings,
)
from shared.settings import AuthSettings, KafkaSettings, MongoSettings

CONTOSO = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
FABRIKAM = "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"
HOME = "c3a9e0d4-75b1-4e6c-8d2f-91b7a4f0e356"
PUBLIC_URL = "http://gateway.test"
SETS = ("read-directory-data", "read-activity-data", "manage-accounts", "read-protected-content", "read-saas-posture")
CLIENT_IDS = {name: f"5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a0{number}" for number, name in enumerate(SETS, 1)}

OPERATOR = Person(
    account_id="northwind",
    account_name="Northwind Traders",
    subject="operator-1",
    name="Operator",
    roles=frozenset({"operator"}),
    session_hash="session-1",
)
OTHER_OPERATOR = replace(
    OPERATOR, account_id="adatum", account_name="Adatum Corporation", subject="operator-2", session_hash="session-2"
)


def settings(
    *,
    mongo_url: str = "mongodb://127.0.0.1:1/?replicaSet=none",
    database: str = "test",
    driver: Any = "motor",
    login_url: str = "https://login.entra.test",
    graph_url: str = "https://graph.entra.test",
    ca_bundle: str | None = None,
    catalog: Path | None = None,
    client_ids: dict[str, str] | None = None,
    sharing: Any = "exclusive",
    timeout_seconds: float = 5.0,
    **consent: Any,
) -> Settings:
    """Settings of a gateway whose Kafka is never there."""
    return Settings(
        public_url=PUBLIC_URL,
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        mongo=MongoSettings(url=SecretStr(mongo_url), database=database, driver=driver, timeout_ms=20_000),
        auth=AuthSettings(issuer="http://idp.test", audience="consent-platform", jwks_url="http://idp.test/jwks"),
        catalog=CatalogSettings(path=catalog, client_ids=client_ids or CLIENT_IDS),
        entra=EntraSettings(
            login_url=login_url,
            graph_url=graph_url,
            ca_bundle=Path(ca_bundle) if ca_bundle else None,
            home_tenant_id=HOME,
            client_secret=SecretStr("sandbox-secret"),
            timeout_seconds=timeout_seconds,
        ),
        console=ConsoleSettings(
            issuer="http://idp.test",
            client_id="consent-console",
            client_secret=SecretStr("secret"),
            session_secret=SecretStr("a secret that is long enough for it"),
        ),
        consent=ConsentSettings(**consent),
        drift=DriftSettings(negatives_span_seconds=0, negatives=2),
        registry_url="http://registry.test",
        notifier_url="http://notifier.test",
        tenant_sharing=sharing,
    )
