"""The adapters in front of an Entra that is slow, silent, or says odd things."""

import asyncio
import json
from collections.abc import Callable

import httpx
import jwt
import pytest

from consent_gateway.catalog.model import MICROSOFT_GRAPH, Resource
from consent_gateway.checks.checks import Delegated, Finding
from consent_gateway.checks.probe import AT_HOME
from consent_gateway.checks.registrations import Home
from consent_gateway.entra import discovery as discovery_module
from consent_gateway.entra.answers import Class, EntraFailed
from consent_gateway.entra.app_tokens import AppTokens
from consent_gateway.entra.credentials import Credentials
from consent_gateway.entra.discovery import Discovery
from consent_gateway.entra.graph import Graph
from consent_gateway.entra.graph_reads import GraphReads
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, HOME

from .test_entra_adapters import (
    GRAPH,
    LOGIN,
    RESOURCE,
    TEAMS,
    Entra,
    answer_with,
    app_token,
    certificate,
    document,
    settings,
    world,
)

CLIENT = CLIENT_IDS["read-directory-data"]
READER = app_token(roles=["Directory.Read.All"])


class Silent(httpx.AsyncBaseTransport):
    """Answers what it was told to, and never answers what it wasn't."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: httpx.Response | None = None
        self.waiting = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        self.waiting.set()
        if self.answer is None:
            await asyncio.Event().wait()
        assert self.answer is not None
        return self.answer


async def test_a_fetch_that_hangs_is_made_once_for_all_and_costs_each_one_deadline() -> None:
    silent = Silent()
    async with httpx.AsyncClient(transport=silent) as client:
        discovery = Discovery(settings(timeout_seconds=0.05), client)
        answers = await asyncio.gather(*(discovery.metadata(CONTOSO) for _ in range(20)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {EntraFailed}
    assert silent.asked == 1


async def test_an_old_document_serves_while_no_new_one_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(discovery_module, "monotonic", lambda: now[0])
    silent = Silent()
    silent.answer = httpx.Response(200, json=document(CONTOSO))
    async with httpx.AsyncClient(transport=silent) as client:
        discovery = Discovery(settings(timeout_seconds=0.05), client)
        await discovery.metadata(CONTOSO)
        silent.answer = None
        now[0] = 3_601
        for _ in range(20):
            assert (await discovery.metadata(CONTOSO)).issuer == f"{LOGIN}/{CONTOSO}/v2.0"
        assert silent.asked == 2
        now[0] += 31
        await discovery.metadata(CONTOSO)
        assert silent.asked == 3


async def test_a_tenant_that_is_not_there_is_asked_for_once_a_minute_whoever_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(discovery_module, "monotonic", lambda: now[0])
    silent = Silent()
    silent.answer = httpx.Response(400, json={"error": "invalid_tenant", "error_codes": [90002]})
    async with httpx.AsyncClient(transport=silent) as client:
        discovery = Discovery(settings(timeout_seconds=0.05), client)
        for now[0] in (0.0, 1.0, 59.0):
            with pytest.raises(EntraFailed) as failed:
                await discovery.metadata(CONTOSO)
            assert (failed.value.answer.klass, silent.asked) == (Class.TENANT, 1)
        with pytest.raises(EntraFailed):
            await discovery.metadata(FABRIKAM)
        assert silent.asked == 2
        silent.answer = httpx.Response(200, json=document(CONTOSO))
        now[0] = 61.0
        assert (await discovery.metadata(CONTOSO)).issuer
    assert silent.asked == 3


async def test_keys_are_kept_rotated_and_believed_for_a_day_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(discovery_module, "monotonic", lambda: now[0])
    entra = Entra()
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(certificate()[1].public_key()))
    keys = [key | {"kid": "old"}, key | {"kid": "not for signatures", "use": "enc"}]
    entra.keys = lambda _: httpx.Response(200, json={"keys": keys})
    async with world(entra) as made:

        async def known(key_id: str) -> bool:
            try:
                found, _ = await made.tokens.signing_key(tenant_id=CONTOSO, key_id=key_id)
            except EntraFailed:
                return False
            return found.key.key_id == key_id

        assert await known("old")
        assert not await known("not for signatures")
        keys = [key | {"kid": "new"}]
        # Entra has a new key: it is found as soon as the keys may be asked for again, and the old one is gone.
        assert [await known("new"), entra.asked("/keys")] == [False, 1]
        now[0] += 11
        assert [await known("new"), await known("old"), entra.asked("/keys")] == [True, False, 2]
        # What is fresh is not asked for again; what isn't, is; and what can't be had anew holds for a day.
        now[0] += 3_599
        assert [await known("new"), entra.asked("/keys")] == [True, 2]
        now[0] += 2
        assert [await known("new"), entra.asked("/keys")] == [True, 3]
        entra.keys = lambda _: httpx.Response(503)
        now[0] += 86_000
        assert [await known("new"), await known("another")] == [True, False]
        now[0] += 500
        assert not await known("new")


def test_what_is_kept_of_tenants_is_the_latest_and_bounded() -> None:
    kept = discovery_module._Recent[int](2)
    for number, name in enumerate(("a", "b", "a", "c")):
        kept.put(name, number)
        assert kept.get("a") is not None
    assert [kept.get(name) is not None for name in "abc"] == [True, False, True]


async def test_a_check_derives_the_token_endpoint_from_our_own_tenants() -> None:
    entra = Entra()
    async with world(entra) as made:
        for tenant in (CONTOSO, FABRIKAM):
            assert await made.discovery.token_endpoint(tenant) == f"{LOGIN}/{tenant}/oauth2/v2.0/token"
        assert [request.url.path.split("/")[1] for request in entra.requests] == [HOME]
    odd = Entra()
    odd.discovery = lambda request: httpx.Response(
        200, json=document("x", token_endpoint=f"{LOGIN}/t{len(request.url.path)}")
    )
    async with world(odd) as made:
        assert await made.discovery.token_endpoint(CONTOSO) == f"{LOGIN}/t{len(odd.requests[-1].url.path)}"
        assert odd.requests[-1].url.path.startswith(f"/{CONTOSO}/")


async def test_a_token_endpoint_that_never_answers_is_given_up_at_the_deadline() -> None:
    silent = Silent()
    chosen = settings(timeout_seconds=0.05)
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(Entra())) as known,
        httpx.AsyncClient(transport=silent) as client,
    ):
        tokens = AppTokens(Discovery(chosen, known), client, Credentials(chosen), deadline_seconds=0.05)
        with pytest.raises(EntraFailed) as failed:
            await tokens.app_token(tenant_id=CONTOSO, client_id=CLIENT, scope=RESOURCE.scope)
        graph = Graph(GraphReads(GRAPH, client, deadline_seconds=0.05))
        assert (await graph.organization("token")).later
    assert (failed.value.answer.klass, failed.value.answer.error) == (Class.TRANSIENT, "timeout")


async def find(entra: Entra, *resources: Resource, full: bool = True) -> Finding:
    async with world(entra) as made:
        return await made.probe.find(
            tenant_id=CONTOSO, client_id=CLIENT, resources=resources or (RESOURCE,), delegated=True, full=full
        )


def graph_of(
    *, grants: Callable[[], httpx.Response], principal: int = 200, resource: int = 200
) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/oauth2PermissionGrants"):
            return grants()
        if "servicePrincipals(" in path:
            return httpx.Response(principal, json={"id": "sp"})
        if "servicePrincipals/" in path:
            return httpx.Response(resource, json={"appId": MICROSOFT_GRAPH})
        return httpx.Response(403, json={})

    return answer


@pytest.mark.parametrize(
    ("principal", "grants", "resource", "expected"),
    [
        (200, httpx.Response(200, json={"value": []}), 200, frozenset()),
        (200, httpx.Response(200, json={"value": ["odd", None]}), 200, frozenset()),
        (
            200,
            httpx.Response(200, json={"value": [{"resourceId": "r", "scope": "User.Read"}]}),
            200,
            frozenset({(MICROSOFT_GRAPH, "User.Read")}),
        ),
        (200, httpx.Response(200, json={"value": [{"resourceId": "r", "scope": "x"}]}), 404, Delegated.UNREADABLE),
        (200, httpx.Response(200, json={"value": [{"resourceId": "r", "scope": "x"}]}), 503, Delegated.LATER),
        (200, httpx.Response(403, json={}), 200, Delegated.UNREADABLE),
        (403, httpx.Response(200, json={"value": []}), 200, Delegated.UNREADABLE),
        (200, httpx.Response(429, json={}), 200, Delegated.LATER),
        (200, httpx.Response(503, text="<html>"), 200, Delegated.LATER),
        (401, httpx.Response(200, json={"value": []}), 200, Delegated.LATER),
        (200, httpx.Response(200, text="cut"), 200, Delegated.LATER),
    ],
)
async def test_a_list_that_cannot_be_had_now_is_neither_unreadable_nor_empty(
    principal: int, grants: httpx.Response, resource: int, expected: object
) -> None:
    entra = Entra()
    entra.token = lambda _: answer_with(READER)
    entra.graph = graph_of(grants=lambda: grants, principal=principal, resource=resource)
    assert (await find(entra)).delegated == expected


async def test_a_list_of_several_pages_is_read_to_its_end_and_only_at_graph() -> None:
    entra = Entra()
    entra.token = lambda _: answer_with(READER)
    pages = [
        {
            "value": [{"resourceId": "r", "scope": "User.Read"}],
            "@odata.nextLink": f"{GRAPH}/v1.0/oauth2PermissionGrants",
        },
        {"value": [{"resourceId": "r", "scope": "openid"}]},
    ]
    entra.graph = graph_of(grants=lambda: httpx.Response(200, json=pages.pop(0)))
    assert (await find(entra)).delegated == frozenset({(MICROSOFT_GRAPH, "User.Read"), (MICROSOFT_GRAPH, "openid")})
    elsewhere = {"value": [], "@odata.nextLink": "https://evil.test/v1.0/oauth2PermissionGrants"}
    entra.graph = graph_of(grants=lambda: httpx.Response(200, json=elsewhere))
    assert (await find(entra)).delegated is Delegated.UNREADABLE
    assert {request.url.host for request in entra.requests} == {"login.entra.test", "graph.entra.test"}


async def test_a_light_check_asks_for_tokens_only() -> None:
    entra = Entra()
    entra.token = lambda _: answer_with(READER)
    finding = await find(entra, full=False)
    assert (finding.delegated, finding.organization, finding.full) == (Delegated.UNASKED, None, False)
    assert not [request for request in entra.requests if str(request.url).startswith(GRAPH)]


async def test_opaque_tokens_are_verified_by_what_graph_says_was_assigned() -> None:
    entra = Entra()
    entra.token = lambda _: answer_with("opaque")
    roles = [{"id": "1", "value": "Directory.Read.All"}, {"id": "2", "value": "User.Read.All"}, "odd"]

    def graph(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/appRoleAssignments"):
            assigned = [{"resourceId": "r", "appRoleId": "1"}, {"resourceId": "r", "appRoleId": "gone"}]
            return httpx.Response(200, json={"value": assigned})
        if path.endswith("/servicePrincipals/r"):
            return httpx.Response(200, json={"appId": MICROSOFT_GRAPH, "appRoles": roles})
        return httpx.Response(403, json={})

    entra.graph = graph
    finding = await find(entra, RESOURCE, TEAMS)
    assert finding.roles == {MICROSOFT_GRAPH: frozenset({"Directory.Read.All"}), TEAMS.app_id: frozenset()}
    assert finding.unanswered is None
    entra.graph = lambda _: httpx.Response(503)
    assert (await find(entra)).unanswered == "unknown: opaque_token"


async def test_a_tenant_without_any_of_the_apis_says_nothing_of_what_was_granted() -> None:
    entra = Entra()
    entra.token = lambda _: httpx.Response(400, json={"error": "invalid_resource", "error_codes": [500011]})
    finding = await find(entra, RESOURCE, TEAMS)
    assert (finding.gone, finding.unanswered) == (None, "service_missing: AADSTS500011")
    assert finding.absent == {MICROSOFT_GRAPH, TEAMS.app_id}


async def test_home_is_asked_for_an_api_that_every_tenant_has() -> None:
    entra = Entra()
    entra.token = lambda _: answer_with(app_token(tid=HOME))
    async with world(entra) as made:
        assert await made.probe.home(CLIENT) is Home.WORKS
    assert AT_HOME.app_id == MICROSOFT_GRAPH
    assert f"{MICROSOFT_GRAPH}%2F.default" in entra.requests[-1].content.decode()
