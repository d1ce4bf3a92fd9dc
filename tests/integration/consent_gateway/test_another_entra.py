"""The gateway in front of an Entra-shaped server that is not the sandbox: nothing but settings may change."""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from consent_gateway.consent.attempts import AttemptStatus, Ended, Redirect
from consent_gateway.grants.grants import Status
from support import plain_entra
from support.gateway import OPERATOR, PUBLIC_URL

TENANT = "4d5c2b1a-9f8e-4a7b-8c6d-112233445566"
SET = "read-directory-data"
ROLES = ["Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"]


async def test_a_consent_is_proven_and_granted_on_any_entra_shaped_server(make_core: Any, tmp_path: Path) -> None:
    async with plain_entra.running(tmp_path, tenant_id=TENANT, tenant_name="Plain Ltd", roles=ROLES) as entra:
        core = await make_core(login_url=entra.origin, graph_url=entra.origin, ca_bundle=str(entra.ca))
        trust = ssl.create_default_context(cafile=str(entra.ca))
        step: Redirect | Ended = Redirect(await core.consent.start(OPERATOR, permission_set_ids=(SET,), tenant_id=None))
        async with httpx.AsyncClient(verify=trust, trust_env=False) as browser:
            while isinstance(step, Redirect):
                assert step.url.startswith(f"{entra.origin}/")
                back = (await browser.get(step.url)).headers["location"]
                assert back.startswith(f"{PUBLIC_URL}/")
                use = core.consent.callback if "adminconsent" in step.url else core.consent.prove
                params = parse_qsl(urlsplit(back).query, keep_blank_values=True)
                step = await use(params, person=OPERATOR, session_hash=OPERATOR.session_hash)
        view = await core.consent.attempt(step.attempt_id, session_hash=OPERATOR.session_hash)

        assert (view.status, view.failure) == (AttemptStatus.SUCCEEDED, None)
        assert (view.tenant_id, view.tenant_name, view.primary_domain) == (TENANT, "Plain Ltd", "plain.example")
        ((grant,),) = [tenant.grants for tenant in await core.store.grants.grants_of("northwind")]
        assert grant.status is Status.GRANTED
        # Scopes name the resource of the catalogue, wherever Graph happens to be served.
        assert set(entra.requests) == {"https://graph.microsoft.com"}
