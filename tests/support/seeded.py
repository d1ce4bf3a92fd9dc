"""Many grants put straight into the gateway's database, as they are after they were verified."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from consent_gateway.catalog.model import PermissionSet
from consent_gateway.core import Core, utc_now
from consent_gateway.grants.documents import grant_fields, grant_id, tenant_doc_id
from consent_gateway.grants.grants import Entra, Grant, Health, accept

BATCH = 2_000


def granted(
    permission_set: PermissionSet, tenant_id: str, *, next_at: datetime, full_at: datetime | None = None
) -> Grant:
    """A grant of account `northwind` that is all there, but for delegated permissions, which can't be verified."""
    now = utc_now()
    fresh = accept(
        None,
        permission_set,
        account_id="northwind",
        tenant_id=tenant_id,
        administrator="6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22",
        attempt_id="seeded",
        now=now - timedelta(hours=2),
        verify_until=now + timedelta(days=1),
        first_check_at=next_at,
    )
    return replace(
        fresh,
        entra=Entra.COMPLETE,
        permissions=tuple(one for one in fresh.accepted if one.type == "application"),
        verified_at=now - timedelta(hours=1),
        revision=1,
        health=Health(next_at=next_at, full_at=full_at),
    )


async def seed(core: Core, grants: Sequence[Grant]) -> None:
    """Put them there, with their tenants."""
    now = utc_now()
    for start in range(0, len(grants), BATCH):
        some = grants[start : start + BATCH]
        documents = []
        for grant in some:
            document: dict[str, object] = {
                "_id": grant_id(grant.account_id, grant.tenant_id, grant.permission_set_id),
                "check": {},
            }
            for name, value in grant_fields(grant).items():
                if name.startswith("check."):
                    check = document["check"]
                    assert isinstance(check, dict)
                    check[name.removeprefix("check.")] = value
                else:
                    document[name] = value
            documents.append(document)
        await core.database["grants"].insert_many(documents, ordered=False)
        await core.database["tenants"].insert_many(
            [
                {
                    "_id": tenant_doc_id(grant.account_id, grant.tenant_id),
                    "account_id": grant.account_id,
                    "tenant_id": grant.tenant_id,
                    "tenant_name": f"Tenant {grant.tenant_id[-12:]}",
                    "primary_domain": f"tenant-{grant.tenant_id[-12:]}.example",
                    "cloud": "global",
                    "revision": 1,
                    "connected": True,
                    "updated_at": now,
                }
                for grant in some
            ],
            ordered=False,
        )
