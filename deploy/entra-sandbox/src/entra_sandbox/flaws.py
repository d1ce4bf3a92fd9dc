"""Ways in which an ID token can be wrong: each breaks one check of whoever validates it and leaves the others alone."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from entra_sandbox.model import CONSUMER_TENANT_ID, Frozen, Guid
from entra_sandbox.roles import MEMBER_WID
from entra_sandbox.signing_keys import FOREIGN_ISSUER, NEIGHBOUR_TENANT_ID


class Flaw(StrEnum):
    """Names of the flaws; what each does is said in `DESCRIPTIONS`."""

    WRONG_SIGNATURE = "wrong_signature"
    UNKNOWN_KEY = "unknown_key"
    ALG_NONE = "alg_none"
    ALG_HS256 = "alg_hs256"
    KEY_OF_OTHER_ISSUER = "key_of_other_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    MISSING_AUDIENCE = "missing_audience"
    WRONG_ISSUER = "wrong_issuer"
    MISSING_ISSUER = "missing_issuer"
    ISSUER_TENANT_MISMATCH = "issuer_tenant_mismatch"
    EXPIRED = "expired"
    MISSING_EXPIRY = "missing_expiry"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_NONCE = "wrong_nonce"
    MISSING_NONCE = "missing_nonce"
    OTHER_TENANT = "other_tenant"
    CONSUMER_TENANT = "consumer_tenant"
    MISSING_TENANT = "missing_tenant"
    TENANT_NOT_A_GUID = "tenant_not_a_guid"
    MISSING_OBJECT_ID = "missing_object_id"
    MISSING_WIDS = "missing_wids"
    WIDS_WITHOUT_ADMIN = "wids_without_admin"


DESCRIPTIONS = {
    Flaw.WRONG_SIGNATURE: "signed by another key, under the kid of the published one",
    Flaw.UNKNOWN_KEY: "signed by a key that is not published",
    Flaw.ALG_NONE: "not signed at all (alg none)",
    Flaw.ALG_HS256: "signed by HMAC with the published public key as the secret",
    Flaw.KEY_OF_OTHER_ISSUER: "signed by a published key whose own issuer is that of personal accounts",
    Flaw.WRONG_AUDIENCE: "aud is another client",
    Flaw.MISSING_AUDIENCE: "no aud",
    Flaw.WRONG_ISSUER: "iss is that of another cloud, and so is the key it is signed by",
    Flaw.MISSING_ISSUER: "no iss",
    Flaw.ISSUER_TENANT_MISMATCH: "iss is that of another tenant than tid, and so is the key it is signed by",
    Flaw.EXPIRED: "exp is an hour ago",
    Flaw.MISSING_EXPIRY: "no exp",
    Flaw.NOT_YET_VALID: "nbf is an hour ahead",
    Flaw.WRONG_NONCE: "nonce of another request",
    Flaw.MISSING_NONCE: "no nonce",
    Flaw.OTHER_TENANT: "tid and iss of another tenant, consistently",
    Flaw.CONSUMER_TENANT: "tid and iss of personal accounts, consistently",
    Flaw.MISSING_TENANT: "no tid",
    Flaw.TENANT_NOT_A_GUID: "tid is the tenant's domain, and so is the tenant in iss",
    Flaw.MISSING_OBJECT_ID: "no oid",
    Flaw.MISSING_WIDS: "no wids",
    Flaw.WIDS_WITHOUT_ADMIN: "wids without any administrator's role",
}


class ArmedFlaw(Frozen):
    """A flaw that waits for the next ID tokens, of every tenant and client or of those that are named."""

    id: str
    flaw: Flaw
    remaining: int | None = 1
    tenant_id: Guid | None = None
    client_id: Guid | None = None


@dataclass(frozen=True)
class Draft:
    """An ID token before it is signed. `key` signs; `kid_of` names the key that the header claims."""

    claims: dict[str, Any]
    key: str = "current"
    kid_of: str = "current"
    algorithm: str = "RS256"

    def with_claims(self, **claims: object) -> "Draft":
        """The same token with other claims."""
        return replace(self, claims={**self.claims, **claims})

    def without(self, *names: str) -> "Draft":
        """The same token without some claims."""
        return replace(self, claims={name: value for name, value in self.claims.items() if name not in names})


@dataclass(frozen=True)
class Scene:
    """What a flaw needs to know of the tenant that the token is for."""

    issuer_template: str
    domain: str

    def issuer(self, tenant: str) -> str:
        """The `iss` of a tenant."""
        return self.issuer_template.replace("{tenantid}", tenant)


def _of_tenant(draft: Draft, scene: Scene, tenant: str) -> Draft:
    return draft.with_claims(tid=tenant, iss=scene.issuer(tenant))


def _in_an_hour(draft: Draft, _: Scene) -> Draft:
    start = int(time.time()) + 3600
    return draft.with_claims(nbf=start, exp=start + 3600)


def _an_hour_ago(draft: Draft, _: Scene) -> Draft:
    end = int(time.time()) - 3600
    return draft.with_claims(iat=end - 3900, nbf=end - 3900, exp=end)


_EDITS: dict[Flaw, Callable[[Draft, Scene], Draft]] = {
    Flaw.WRONG_SIGNATURE: lambda draft, _: replace(draft, key="unpublished"),
    Flaw.UNKNOWN_KEY: lambda draft, _: replace(draft, key="unpublished", kid_of="unpublished"),
    Flaw.ALG_NONE: lambda draft, _: replace(draft, algorithm="none"),
    Flaw.ALG_HS256: lambda draft, _: replace(draft, algorithm="HS256"),
    Flaw.KEY_OF_OTHER_ISSUER: lambda draft, _: replace(draft, key="consumers", kid_of="consumers"),
    Flaw.WRONG_AUDIENCE: lambda draft, _: draft.with_claims(aud=str(uuid.uuid4())),
    Flaw.MISSING_AUDIENCE: lambda draft, _: draft.without("aud"),
    Flaw.WRONG_ISSUER: lambda draft, _: replace(
        draft.with_claims(iss=FOREIGN_ISSUER.replace("{tenantid}", draft.claims["tid"])),
        key="foreign",
        kid_of="foreign",
    ),
    Flaw.MISSING_ISSUER: lambda draft, _: draft.without("iss"),
    Flaw.ISSUER_TENANT_MISMATCH: lambda draft, scene: replace(
        draft.with_claims(iss=scene.issuer(NEIGHBOUR_TENANT_ID)), key="neighbour", kid_of="neighbour"
    ),
    Flaw.EXPIRED: _an_hour_ago,
    Flaw.MISSING_EXPIRY: lambda draft, _: draft.without("exp"),
    Flaw.NOT_YET_VALID: _in_an_hour,
    Flaw.WRONG_NONCE: lambda draft, _: draft.with_claims(nonce=uuid.uuid4().hex),
    Flaw.MISSING_NONCE: lambda draft, _: draft.without("nonce"),
    Flaw.OTHER_TENANT: lambda draft, scene: _of_tenant(draft, scene, NEIGHBOUR_TENANT_ID),
    Flaw.CONSUMER_TENANT: lambda draft, scene: _of_tenant(draft, scene, CONSUMER_TENANT_ID),
    Flaw.MISSING_TENANT: lambda draft, _: draft.without("tid"),
    Flaw.TENANT_NOT_A_GUID: lambda draft, scene: _of_tenant(draft, scene, scene.domain),
    Flaw.MISSING_OBJECT_ID: lambda draft, _: draft.without("oid"),
    Flaw.MISSING_WIDS: lambda draft, _: draft.without("wids"),
    Flaw.WIDS_WITHOUT_ADMIN: lambda draft, _: draft.with_claims(wids=[MEMBER_WID]),
}


def spoil(draft: Draft, flaw: Flaw, scene: Scene) -> Draft:
    """The token with that flaw."""
    return _EDITS[flaw](draft, scene)
