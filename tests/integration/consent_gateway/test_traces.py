"""What flows leave behind: no token, secret, state or code in any log line, page or event; names can be erased."""

import asyncio
import logging
import sys
from typing import Any

import pytest

from consent_gateway.core import Core
from shared import logs
from shared.settings import LogSettings
from support import gateway, gateway_site
from support.browsing import Browser
from support.entra_sandbox import EntraSandbox, Visitor
from support.gateway import CONTOSO, OPERATOR, SETS
from support.gateway_site import form_token
from support.ledger import accepted_on

SCREEN = "/integrations/microsoft-entra-id"


async def test_nothing_secret_is_left_in_logs_pages_or_the_database(  # noqa: PLR0917 - fixtures
    core: Core,
    entra: EntraSandbox,
    visitor: Visitor,
    mongo_url: str,
    mongo_database: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = gateway.settings(
        mongo_url=mongo_url,
        database=mongo_database,
        login_url=entra.login,
        graph_url=entra.graph,
        ca_bundle=entra.ca,
        wait_seconds=2,
    )
    level, handlers = logging.getLogger().level, list(logging.getLogger().handlers)
    logs.configure(LogSettings(level="debug", format="json"), service="consent-gateway")
    secrets: set[str] = {"sandbox-secret", "AT.operator-1", "IT.operator-1"}
    pages: list[str] = []
    try:
        async with gateway_site.site(settings, core.database) as site:
            mine, guest = await site.signed_in(), site.browser()

            async def through(visit: Any, step: Any, by: Visitor = visitor, **how: Any) -> Any:
                while not (url := step.headers["location"]).startswith(("/consent/attempts/", "/invite/")):
                    params = dict(await by.go(url, **how))
                    secrets.update(params[name] for name in ("state", "code") if name in params)
                    leg = "callback" if "adminconsent" in url else "proof"
                    step = await visit.get(f"/consent/{leg}", params=params)
                return await visit.get(step.headers["location"])

            begun = {"permission_set_id": SETS[0], "tenant_id": CONTOSO}
            await through(mine, await mine.post(f"{SCREEN}/consents", begun), accept=False)
            await through(mine, await mine.post(f"{SCREEN}/consents", begun))
            made = await mine.post(f"{SCREEN}/invitations", {"permission_set_id": SETS[2]})
            path = f"/invite/{made.text.partition('/invite/')[2].partition('<')[0].partition(chr(34))[0]}"
            pages_with_link = len(mine.pages)
            async with Browser() as browser:
                admin = Visitor(entra, browser)
                asking = await through(guest, await guest.post(path, {"step": "sign-in"}), admin)
                yes = await guest.post(path, {"step": "connect"}, csrf=form_token(asking))
                await through(guest, yes, admin)
            for page in (SCREEN, f"{SCREEN}/invitations", f"{SCREEN}/history", "/consent/callback?state=made-up-state"):
                await mine.get(page)
            token = path.rpartition("/")[2]
            secrets |= {token, mine.cookie, "made-up-state", guest.http.cookies["consent_invite"]}
            pages = [
                page.text
                for page in mine.pages
                if token not in page.text or page is not mine.pages[pages_with_link - 1]
            ]
            # The page of an invitation holds its own address: it is the link's own.
            pages += [page.text.replace(path, "") for page in guest.pages]
    finally:
        logging.getLogger().setLevel(level)
        logging.getLogger().handlers[:] = handlers
    stored = [
        str(await core.database[name].find({}).to_list(None))
        for name in ("attempts", "outbox", "grants", "tenants", "people", "invitations", "sessions", "sign_ins")
    ]
    logged = capsys.readouterr()
    assert "consent.proven" in logged.out
    assert len(secrets) > 12
    for text in (logged.out, logged.err, *pages, *stored):
        assert not [secret for secret in secrets if secret in text]
    for text in (logged.out, logged.err, *pages, *stored[1:]):
        # Signed tokens of whatever kind begin like this.
        assert "eyJ" not in text


async def test_a_command_erases_a_person(core: Core, mongo_url: str, mongo_database: str) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SETS[0])
    (tenant,) = await core.store.grants.grants_of("northwind")
    (object_id,) = tenant.people
    environment = {
        "PUBLIC_URL": gateway.PUBLIC_URL,
        "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MONGO__URL": mongo_url,
        "MONGO__DATABASE": mongo_database,
        "AUTH__ISSUER": "http://idp.test",
        "AUTH__AUDIENCE": "consent-platform",
        "AUTH__JWKS_URL": "http://idp.test/jwks",
        "CATALOG__CLIENT_IDS": str(gateway.CLIENT_IDS).replace("'", '"'),
        "ENTRA__HOME_TENANT_ID": gateway.HOME,
        "ENTRA__CLIENT_SECRET": "secret",
        "CONSOLE__ISSUER": "http://idp.test",
        "CONSOLE__CLIENT_SECRET": "secret",
        "CONSOLE__SESSION_SECRET": "a secret that is long enough for it",
        "REGISTRY_URL": "http://registry.test",
        "NOTIFIER_URL": "http://notifier.test",
    }
    for said, code in (("what was known is erased", 0), ("nothing was known", 1)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consent_gateway", "people", "forget", object_id),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert (process.returncode, said in out.decode()) == (code, True)
    (tenant,) = await core.store.grants.grants_of("northwind")
    assert tenant.people == {}
