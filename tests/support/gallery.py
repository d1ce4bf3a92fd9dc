"""Every page of the console in its states, as it is rendered: for looking at, by people and by tools.

A page that is not here fails the test that compares this list with the templates.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.async_api import BrowserContext, Route, async_playwright

from consent_gateway.catalog.needs import affected, held_on
from consent_gateway.consent.attempts import AttemptStatus, LinkView, NextStep, Proven, SetResult
from consent_gateway.consent.failures import Failure
from consent_gateway.consent.invited import Asking, Invitation, InvitationStatus, InvitationView
from consent_gateway.consent.outcome import NEXT_STEPS
from consent_gateway.consent.transfers import TransferStatus, TransferView
from consent_gateway.entra.links import enterprise_application
from consent_gateway.errors import Kind
from consent_gateway.web.location import Location
from consent_gateway.web.overview import screen
from consent_gateway.web.pages import Pages, _assets, _environment
from consent_gateway.web.security import FormTargets
from consent_gateway.web.sessions import Identity, Session
from shared.auth import Principal
from shared.events import HeldApp
from support.chromium import ARGUMENTS, CHROMIUM
from support.console import CONTOSO, FABRIKAM, SETS, attempt_view, every_status, packaged_catalog

ORIGIN = "http://console.test"
# These show what the registry tells; with real data they are looked at in tests/e2e/test_keyboard.py.
OF_THE_REGISTRY = {
    *("accounts.html", "fleet.html", "history.html", "invite_many.html", "planned.html", "planned_tenants.html"),
}
SCREEN = "/integrations/microsoft-entra-id"
CATALOG = packaged_catalog()
NOW = datetime.now(UTC)
# Stands in for the stream: connected, and silent.
CONNECTED = """window.EventSource = class extends EventTarget {
  constructor() { super(); setTimeout(() => this.dispatchEvent(new Event("open"))); }
  close() {}
};"""


@dataclass(frozen=True)
class Shown:
    """A page: its template with what fills it, and who looks at it (None: nobody is signed in)."""

    template: str
    values: Mapping[str, Any]
    role: str | None = "admin"


def session(role: str) -> Session:
    """Somebody of Northwind Traders."""
    principal = Principal(
        subject="s",
        account_id="northwind",
        account_name="Northwind Traders",
        app_id=None,
        roles=frozenset({role}),
        expires_at=2_000_000_000,
    )
    identity = Identity(principal=principal, name=f"Northwind {role}", access_token="A", id_token="I")
    return Session(id="i", binding="b", identity=identity, csrf_token="form-token", renew_at=NOW, expires_at=NOW)


def gallery() -> dict[str, Shown]:
    """The pages by name."""
    tenants = every_status(CATALOG)
    details = (f"{CONTOSO}.{SETS[2]}", f"{CONTOSO}.{SETS[0]}")
    found = {
        "screen": _screen(tenants),
        "screen-details": _screen(tenants, open_details=details),
        "screen-first-visit": _screen([]),
        "screen-viewer": replace(_screen(tenants, may_consent=False), role="viewer"),
        "screen-from-app": _screen(tenants, app_id="zero-trust-secure-access"),
        "screen-from-limited-app": _screen(tenants, app_id="mobile-security"),
        "screen-failed": _screen(tenants[:1], failures=[_failure(Kind.NOT_ADMINISTRATOR), _failure(Kind.OTHER_TENANT)]),
        "add-tenant": _screen(tenants[:1], adding=True),
        "add-tenant-error": _screen([], adding=True, error="malformed", tenant_id="contoso", chosen=SETS[:1]),
        "integrations": Shown("integrations.html", {"view": _view(tenants), "catalog": CATALOG}),
        "integrations-none": Shown("integrations.html", {"view": _view([]), "catalog": CATALOG}),
        "signed-out": Shown("signed_out.html", {}, None),
    }
    return found | _grants() | _tenants() | _invitations() | _transfers() | _links() | _ends()


def standing_for_all() -> dict[str, Shown]:
    """The gallery without the ends that differ from others in their words only."""
    ends = {
        *("end-granted", "end-verifying", "end-held", "end-awaiting_confirmation", "end-guest", "end-declined"),
        *("end-other_tenant", "end-tenant_taken", "problem-expired", "problem-used", "problem-no_access"),
    }
    return {name: one for name, one in gallery().items() if name in ends or not name.startswith(("end-", "problem-"))}


def _view(tenants: Any, **location: Any) -> Any:
    return screen(CATALOG, tenants, location=Location(path=SCREEN, **location))


def _screen(tenants: Any, **more: Any) -> Shown:
    where = {name: more.pop(name) for name in ("app_id", "open_details", "adding") if name in more}
    blank = {"notice": None, "error": None, "chosen": (), "tenant_id": "", "endings": (), "failures": ()}
    return Shown(
        "screen.html",
        {"view": _view(tenants, **where), "catalog": CATALOG, "may_consent": True, **blank, **more},
        "operator",
    )


def _failure(kind: Kind) -> Failure:
    return Failure(
        id=f"a-{kind}",
        kind=kind,
        permission_set_ids=SETS[:1],
        tenant_id=FABRIKAM,
        error_code="AADSTS90094",
        reference="3f0e8a7c5d1b",
        next_step=NEXT_STEPS[kind],
        at=NOW - timedelta(minutes=12),
    )


def _grants() -> dict[str, Shown]:
    found = {}
    contoso, fabrikam = every_status(CATALOG)
    for tenant, name in ((contoso, "granted"), (fabrikam, "blocked")):
        grant = next(one for one in tenant.grants if str(one.status) == name)
        wanted = CATALOG.sets[grant.permission_set_id]
        without = replace(tenant, grants=tuple(replace(one, blocked=True) for one in tenant.grants))
        found[f"grant-{name}"] = Shown(
            "grant.html",
            {
                "tenant": tenant,
                "wanted": wanted,
                "grant": grant,
                "stops": affected(CATALOG, wanted, without),
                "remove_url": enterprise_application("global", wanted.client_id),
                "watched": NOW + timedelta(minutes=9) if name == "blocked" else None,
                "may_consent": True,
            },
        )
    return found


def _tenants() -> dict[str, Shown]:
    tenants = every_status(CATALOG)
    contoso = tenants[0]
    without = replace(contoso, grants=tuple(replace(one, blocked=True) for one in contoso.grants))
    held = held_on(CATALOG, (one for grant in contoso.grants for one in grant.held_apps), tenants)
    values = {
        "tenant": contoso,
        "held": held,
        "limited": [],
        "stops": affected(CATALOG, CATALOG.sets[SETS[1]], without),
        "may_consent": True,
        "may_administer": True,
    }
    limited = {"held": (), "limited": [CATALOG.apps["mobile-security"]], "may_administer": False}
    return {"tenant": Shown("tenant.html", values), "tenant-operator": Shown("tenant.html", values | limited)}


def invitation(status: InvitationStatus, *, tenant_id: str | None, proven: bool = False) -> Invitation:
    """An invitation for two sets."""
    return Invitation(
        id=f"i-{status}",
        account_id="northwind",
        account_name="Northwind Traders",
        created_by="s",
        permission_set_ids=SETS[:2],
        tenant_id=tenant_id,
        status=status,
        proven=Proven(tenant_id=CONTOSO, object_id="o", at=NOW) if proven else None,
        created_at=NOW - timedelta(hours=5),
        expires_at=NOW + timedelta(days=6),
    )


def _invitations() -> dict[str, Shown]:
    titles = tuple(CATALOG.sets[each].title for each in SETS[:2])
    views = [
        InvitationView(
            invitation=invitation(status, tenant_id=None if proven else FABRIKAM, proven=proven),
            status=status,
            set_titles=titles,
            inviter="Northwind operator",
            administrator="Contoso Administrator" if proven else None,
            tenant_name="Contoso Ltd" if proven else None,
        )
        for status in InvitationStatus
        for proven in [status in {InvitationStatus.AWAITING_CONFIRMATION, InvitationStatus.SUCCEEDED}]
    ]
    blank = {"made": None, "error": None, "chosen": (), "tenant_id": "", "next_page": None}
    values = {"views": views, "catalog": CATALOG, "may_consent": True, **blank}
    link = f"{ORIGIN}/invite/3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    asking = Asking(
        invitation=invitation(InvitationStatus.PENDING, tenant_id=None),
        inviter="Northwind operator",
        proven=None,
        administrator=None,
    )
    proven = replace(asking, proven=Proven(tenant_id=CONTOSO, object_id="o", at=NOW), administrator="Contoso Admin")
    sets = [CATALOG.sets[each] for each in SETS[:2]]
    page = {"token": "t", "form_token": "f", "sets": sets}
    return {
        "invitations": Shown("invitations.html", values),
        "invitations-made": Shown("invitations.html", values | {"made": link, "views": views[:1]}),
        "invitations-error": Shown("invitations.html", values | {"error": "invalid", "views": []}),
        "invite": Shown("invite.html", page | {"asking": asking}, None),
        "invite-connect": Shown("invite.html", page | {"asking": proven}, None),
    }


def _transfers() -> dict[str, Shown]:
    views = [
        TransferView(
            id=f"t-{status}-{incoming}",
            incoming=incoming,
            tenant_id=CONTOSO,
            tenant_name="Contoso Ltd" if incoming else None,
            claimant="Adatum Corporation" if incoming and status is TransferStatus.PENDING else None,
            status=status,
            created_at=NOW - timedelta(days=1),
            expires_at=NOW + timedelta(days=6),
        )
        for status in TransferStatus
        for incoming in (True, False)
    ]
    none: dict[str, Any] = {"transfers": [], "may_accept": False}
    return {
        "transfers": Shown("transfers.html", {"transfers": views, "may_accept": True}),
        "transfers-none": Shown("transfers.html", none),
    }


def _links() -> dict[str, Shown]:
    link = LinkView(
        attempt_id="a",
        account_id="northwind",
        account_name="Northwind Traders",
        app_id="mobile-security",
        permission_set_ids=SETS[:1],
        set_titles=(CATALOG.sets[SETS[0]].title,),
        tenant_id=None,
        expires_at=NOW + timedelta(minutes=9),
    )
    app, sets = CATALOG.apps["mobile-security"], [CATALOG.sets[SETS[0]]]
    return {"connect": Shown("connect.html", {"link": link, "token": "t", "app": app, "sets": sets})}


def _ends() -> dict[str, Shown]:
    """Where consents end: every outcome, and every refusal that leaves no run behind."""
    title = CATALOG.sets[SETS[0]].title
    held = HeldApp(app_id="mobile-security", tenant_id=FABRIKAM, epoch=1)
    done = SetResult(permission_set_id=SETS[0], title=title, outcome=AttemptStatus.SUCCEEDED, status="granted")
    changes: dict[str, dict[str, Any]] = {
        "granted": {"return_url": "https://app.test/?consent_id=1"},
        "verifying": {"results": (replace(done, status="verifying"),), "next_step": NextStep.WAIT},
        "held": {"results": (replace(done, held_apps=(held,)),), "next_step": NextStep.MOVE_APP},
        "awaiting_confirmation": {"status": AttemptStatus.AWAITING_CONFIRMATION, "results": ()},
    }
    failed: dict[str, Any] = {
        "status": AttemptStatus.FAILED,
        "results": (),
        "tenant_name": None,
        "remaining": SETS[:1],
    }
    for kind in NEXT_STEPS:
        changes[kind.value] = failed | {"failure": kind, "next_step": NEXT_STEPS[kind], "error_code": "AADSTS90094"}
    changes["partly"] = changes["declined"] | {
        "permission_set_ids": SETS[:2],
        "set_titles": tuple(CATALOG.sets[one].title for one in SETS[:2]),
        "remaining": SETS[1:2],
        "tenant_name": "Contoso Ltd",
    }
    found = {f"end-{name}": _end(name, change) for name, change in changes.items()}
    found["end-guest"] = replace(_end("granted", {"invited": True}), role=None)
    alone = {*map(str, {*Kind} - NEXT_STEPS.keys()), "form_refused", "sign_in_failed", "no_access", "internal"}
    for name in sorted(alone):
        found[f"problem-{name}"] = Shown("problem.html", {"kind": name, "reference": "3f0e8a7c5d1b"}, None)
    return found


def _end(name: str, change: Mapping[str, Any]) -> Shown:
    view = attempt_view(CATALOG, **change)
    outcome = view.failure.value if view.failure else "verifying" if name == "verifying" else view.status.value
    again = view.failure is not None and NEXT_STEPS[view.failure] != NextStep.CONTACT_SUPPORT
    values = {
        "attempt": view,
        "outcome": outcome,
        "again": again,
        "again_on": view.tenant_id,
        "catalog": CATALOG,
        "tenant_names": {FABRIKAM: "Fabrikam Inc"},
        "moves": held_on(CATALOG, [held for one in view.results for held in one.held_apps], every_status(CATALOG)),
        "may_administer": True,
        "transfer": None,
    }
    return Shown("attempt.html", values)


def pages_without_a_picture(shown: Mapping[str, Shown]) -> set[str]:
    """Templates that are pages, and that the gallery does not have."""
    environment = _environment()
    assert environment.loader is not None
    pages = {
        name
        for name in environment.list_templates()
        if '{% extends "base.html" %}' in environment.loader.get_source(environment, name)[0]
    }
    return pages - OF_THE_REGISTRY - {each.template for each in shown.values()}


@asynccontextmanager
async def looking(
    shown: Mapping[str, Shown], *, unprotected: bool = False, injected: str = ""
) -> AsyncIterator[BrowserContext]:
    """A Chromium for which ``http://console.test/NAME`` is that page, under its real headers.

    ``unprotected`` takes its headers away; ``injected`` is put into its body as if it had not been escaped.
    """
    pages = Pages(form_targets=FormTargets())

    async def answer(route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
        if path.startswith("/static/"):
            name = path.removeprefix("/static/")
            kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
            await route.fulfill(body=_assets()[name][0], content_type=kind)
            return
        page = shown[path.strip("/")]
        who = session(page.role) if page.role else None
        response = await pages.render(page.template, page.values, session=who)
        body = bytes(response.body).decode().replace("</main>", f"{injected}</main>")
        headers = {"content-type": "text/html"} if unprotected else dict(response.headers)
        headers.pop("content-length", None)
        await route.fulfill(status=200, body=body, headers=headers)

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await chromium.new_context(locale="en-GB", timezone_id="Europe/Berlin")
        await context.add_init_script(CONNECTED)
        await context.route(f"{ORIGIN}/**", answer)
        yield context
        await chromium.close()
