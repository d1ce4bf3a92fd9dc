"""The adapters to Entra and Graph, in front of a transport that answers as a test says."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from consent_gateway.catalog.model import MICROSOFT_GRAPH, Resource
from consent_gateway.checks.checks import Delegated, Finding
from consent_gateway.checks.probe import Probe
from consent_gateway.checks.registrations import Home
from consent_gateway.entra.answers import Class, EntraFailed
from consent_gateway.entra.app_tokens import AppTokens
from consent_gateway.entra.credentials import CredentialError, Credentials
from consent_gateway.entra.discovery import Discovery, browser_endpoint, seconds_of
from consent_gateway.entra.graph import Graph
from consent_gateway.entra.graph_reads import GraphReads
from consent_gateway.entra.sign_in import EntraTokens
from consent_gateway.grants.grants import Reason
from consent_gateway.settings import EntraSettings
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, HOME

LOGIN = "https://login.entra.test"
GRAPH = "https://graph.entra.test"
CLIENT = CLIENT_IDS["read-directory-data"]
RESOURCE = Resource(app_id=MICROSOFT_GRAPH, identifier="https://graph.microsoft.com", name="Microsoft Graph")
TEAMS = Resource(app_id=FABRIKAM, identifier="teams", name="Teams")

Answerer = Callable[[httpx.Request], httpx.Response]


def document(tenant: str, **changes: Any) -> dict[str, Any]:
    return {
        "issuer": f"{LOGIN}/{tenant}/v2.0",
        "authorization_endpoint": f"{LOGIN}/{tenant}/oauth2/v2.0/authorize",
        "token_endpoint": f"{LOGIN}/{tenant}/oauth2/v2.0/token",
        "jwks_uri": f"{LOGIN}/{tenant}/discovery/v2.0/keys",
    } | changes


def app_token(**changes: Any) -> str:
    claims = {"tid": CONTOSO, "appid": CLIENT, "roles": ["User.Read.All"]} | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, "x" * 32)


class Entra:
    """Answers of Entra, by what is asked for; everything that went out is in ``requests``."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.token: Answerer = lambda _: httpx.Response(
            200, json={"access_token": app_token(), "token_type": "Bearer", "expires_in": 3599}
        )
        self.discovery: Answerer = lambda request: httpx.Response(200, json=document(request.url.path.split("/")[1]))
        self.keys: Answerer = lambda _: httpx.Response(200, json={"keys": []})
        self.graph: Answerer = lambda _: httpx.Response(403, json={})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        if str(request.url).startswith(GRAPH):
            return self.graph(request)
        if path.endswith("/token"):
            return self.token(request)
        return self.keys(request) if path.endswith("/keys") else self.discovery(request)

    def asked(self, suffix: str) -> int:
        return len([one for one in self.requests if one.url.path.endswith(suffix)])


def settings(**changes: Any) -> EntraSettings:
    values: dict[str, Any] = {
        "login_url": LOGIN,
        "graph_url": GRAPH,
        "home_tenant_id": HOME,
        "client_secret": SecretStr("a secret"),
        "timeout_seconds": 2.0,
    }
    return EntraSettings(**(values | changes))


class World:
    """The adapters, wired together."""

    def __init__(self, entra: Entra, chosen: EntraSettings) -> None:
        transport = httpx.MockTransport(entra)
        self.client = httpx.AsyncClient(transport=transport)
        self.discovery = Discovery(chosen, self.client)
        credentials = Credentials(chosen)
        self.tokens = EntraTokens(
            self.discovery,
            httpx.Client(transport=transport),
            credentials,
            login_url=LOGIN,
            concurrency=4,
            timeout_seconds=2.0,
        )
        self.app_tokens = AppTokens(self.discovery, self.client, credentials, deadline_seconds=2.0)
        graph = Graph(GraphReads(GRAPH, self.client, deadline_seconds=2.0))
        self.probe = Probe(self.app_tokens, graph, home_tenant_id=HOME)


@asynccontextmanager
async def world(entra: Entra, **changes: Any) -> AsyncIterator[World]:
    made = World(entra, settings(**changes))
    yield made
    made.tokens.close()
    await made.client.aclose()


async def token(made: World) -> str:
    return await made.app_tokens.app_token(tenant_id=CONTOSO, client_id=CLIENT, scope=RESOURCE.scope)


async def test_every_token_is_fetched_anew_and_discovery_is_not() -> None:
    entra = Entra()
    async with world(entra) as made:
        for _ in range(3):
            assert await token(made) == app_token()
    assert (entra.asked("/token"), entra.asked("openid-configuration"), len(entra.requests)) == (3, 1, 4)
    form = parse_qs(entra.requests[-1].content.decode())
    assert form["grant_type"] == ["client_credentials"]
    assert form["scope"] == ["https://graph.microsoft.com/.default"]
    assert form["client_secret"] == ["a secret"]


async def test_an_error_is_asked_about_again_each_time() -> None:
    """Msal itself would repeat an HTTP 400 for a minute."""
    entra = Entra()
    entra.token = lambda _: httpx.Response(400, json={"error": "unauthorized_client", "error_codes": [700016]})
    async with world(entra) as made:
        for _ in range(3):
            with pytest.raises(EntraFailed) as failed:
                await token(made)
            assert failed.value.answer.klass is Class.REMOVED
    assert entra.asked("/token") == 3


@pytest.mark.parametrize(
    ("answer", "klass", "name"),
    [
        (httpx.Response(401, json={"error": "invalid_client", "error_codes": [7000222]}), Class.OURS, "AADSTS7000222"),
        (httpx.Response(503, text="<html>"), Class.TRANSIENT, "http_503"),
        (httpx.Response(503, json={"error": "temporarily_unavailable"}), Class.TRANSIENT, "temporarily_unavailable"),
        (httpx.Response(500, json={}), Class.TRANSIENT, "http_500"),
        (httpx.Response(429, text=""), Class.TRANSIENT, "http_429"),
        (httpx.Response(200, text="not json"), Class.UNKNOWN, "http_200"),
        (httpx.Response(200, json=[]), Class.UNKNOWN, "http_200"),
        (httpx.Response(200, json={}), Class.UNKNOWN, "unusable_answer"),
        (httpx.Response(400, json={"error": 1, "error_codes": "x"}), Class.UNKNOWN, None),
    ],
)
async def test_whatever_the_token_endpoint_says_has_a_class(
    answer: httpx.Response, klass: Class, name: str | None
) -> None:
    entra = Entra()
    entra.token = lambda _: answer
    async with world(entra) as made:
        with pytest.raises(EntraFailed) as failed:
            await token(made)
    assert failed.value.answer.klass is klass
    if name != "unusable_answer":
        assert failed.value.answer.name == name


async def test_retry_after_reaches_the_caller_and_nonsense_does_not() -> None:
    entra = Entra()
    headers = {"Retry-After": "17"}
    entra.token = lambda _: httpx.Response(429, json={"error": "too_many"}, headers=headers)
    async with world(entra) as made:
        with pytest.raises(EntraFailed) as failed:
            await token(made)
    assert failed.value.answer.retry_after == 17
    assert [seconds_of(text) for text in ("999999", "-1", "soon", None)] == [3600, None, None, None]


async def test_a_dead_network_is_transient_for_tokens_and_discovery() -> None:
    def dead(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    entra = Entra()
    entra.token = dead
    async with world(entra) as made:
        with pytest.raises(EntraFailed) as failed:
            await token(made)
        assert failed.value.answer.klass is Class.TRANSIENT
        entra.discovery = dead
        with pytest.raises(EntraFailed) as failed:
            await made.discovery.metadata(FABRIKAM)
        assert failed.value.answer.klass is Class.TRANSIENT


async def test_a_sign_in_carries_state_challenge_nonce_and_its_tenant_only() -> None:
    async with world(Entra()) as made:
        begun = await made.tokens.begin_sign_in(
            tenant_id=CONTOSO, client_id=CLIENT, redirect_uri="http://gateway.test/p", state="s", silent=True
        )
    parts = urlsplit(begun.url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path == f"/{CONTOSO}/oauth2/v2.0/authorize"
    assert (query["state"], query["prompt"], query["code_challenge_method"]) == ("s", "none", "S256")
    assert (query["response_mode"], query["redirect_uri"]) == ("query", "http://gateway.test/p")
    assert set(query["scope"].split()) == {"openid", "profile"}
    assert begun.verifier not in begun.url
    assert begun.nonce not in begun.url


async def test_a_certificate_signs_an_assertion_that_arrives_whole(tmp_path: Path) -> None:
    pem, _ = certificate()
    (tmp_path / f"{CLIENT}.pem").write_bytes(pem)
    entra = Entra()
    async with world(entra, credentials_dir=tmp_path) as made:
        await token(made)
    form = parse_qs(entra.requests[-1].content.decode())
    header = jwt.get_unverified_header(form["client_assertion"][0])
    assert (header["alg"], "x5t#S256" in header) == ("PS256", True)
    assert "client_secret" not in form


async def test_a_federated_assertion_is_read_when_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / f"{CLIENT}.jwt"
    entra = Entra()
    async with world(entra, credentials_dir=tmp_path) as made:
        for assertion in ("one", "two"):
            path.write_text(f"{assertion}\n")
            await token(made)
            assert parse_qs(entra.requests[-1].content.decode())["client_assertion"] == [assertion]


def test_what_is_specific_to_a_registration_goes_first(tmp_path: Path) -> None:
    (tmp_path / f"{CLIENT}.secret").write_text(" its own \n")
    credentials = Credentials(settings(credentials_dir=tmp_path))
    assert credentials.of(CLIENT) == "its own"
    assert credentials.of(FABRIKAM) == "a secret"
    nothing = Credentials(settings(credentials_dir=tmp_path, client_secret=None))
    with pytest.raises(CredentialError, match=f"holds no {FABRIKAM}"):
        nothing.check([CLIENT, FABRIKAM])
    for content in ("", "not a certificate"):
        (tmp_path / f"{CLIENT}.pem").write_text(content)
        with pytest.raises(CredentialError, match=f"{CLIENT}.pem"):
            credentials.of(CLIENT)


@pytest.mark.parametrize(
    ("endpoint", "good"),
    [
        ("https://login.test/authorize", True),
        ("http://localhost:8090/authorize", True),
        ("http://127.0.0.1:8090/authorize", True),
        ("http://[::1]:8090/authorize", True),
        ("http://login.test/authorize", False),
        ("http://localhost.evil.test/authorize", False),
        ("http://127.0.0.1.evil.test/", False),
        ("javascript:alert(1)", False),
        ("//login.test/authorize", False),
        ("", False),
    ],
)
async def test_browsers_go_to_https_or_to_this_very_machine(endpoint: str, good: bool) -> None:
    entra = Entra()
    entra.discovery = lambda _: httpx.Response(200, json=document(CONTOSO, authorization_endpoint=endpoint))
    async with world(entra) as made:
        metadata = await made.discovery.metadata(CONTOSO)
        if good:
            assert browser_endpoint(metadata) == endpoint
            return
        with pytest.raises(EntraFailed):
            await made.discovery.authorization_origin()
        with pytest.raises(EntraFailed):
            await made.tokens.begin_sign_in(
                tenant_id=CONTOSO, client_id=CLIENT, redirect_uri="http://g.test", state="s", silent=False
            )


@pytest.mark.parametrize(
    ("answer", "klass"),
    [
        (httpx.Response(400, json={"error": "invalid_tenant", "error_codes": [90002]}), Class.TENANT),
        (httpx.Response(200, json=document(CONTOSO, token_endpoint="http://x.test")), Class.CONFIG),
        (httpx.Response(200, json=document(CONTOSO, jwks_uri="http://x.test")), Class.CONFIG),
        (httpx.Response(200, json={"issuer": LOGIN}), Class.CONFIG),
        (httpx.Response(200, json=[]), Class.UNKNOWN),
        (httpx.Response(502, text="bad gateway"), Class.TRANSIENT),
    ],
)
async def test_a_discovery_document_that_cannot_be_used_has_a_class(answer: httpx.Response, klass: Class) -> None:
    entra = Entra()
    entra.discovery = lambda _: answer
    async with world(entra) as made:
        with pytest.raises(EntraFailed) as failed:
            await made.discovery.metadata(CONTOSO)
    assert failed.value.answer.klass is klass


async def test_strangers_cannot_make_us_fetch_keys_again_and_again() -> None:
    _, key = certificate()
    entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "k", "issuer": "i"}
    entra = Entra()
    entra.keys = lambda _: httpx.Response(200, json={"keys": [entry, {"kid": "broken"}, "nonsense"]})
    async with world(entra) as made:
        found, issuer = await made.tokens.signing_key(tenant_id=CONTOSO, key_id="k")
        assert (found.issuer, issuer) == ("i", f"{LOGIN}/{CONTOSO}/v2.0")
        for number in range(20):
            with pytest.raises(EntraFailed):
                await made.tokens.signing_key(tenant_id=CONTOSO, key_id=f"unknown-{number}")
    assert entra.asked("/keys") == 1


async def find(made: World, *resources: Resource, delegated: bool = False) -> Finding:
    return await made.probe.find(
        tenant_id=CONTOSO, client_id=CLIENT, resources=resources or (RESOURCE,), delegated=delegated
    )


async def test_roles_come_from_a_token_of_this_tenant_and_client() -> None:
    entra = Entra()
    async with world(entra) as made:
        assert (await find(made)).roles == {MICROSOFT_GRAPH: frozenset({"User.Read.All"})}
        for changes in ({"tid": FABRIKAM}, {"appid": FABRIKAM}, {"roles": "User.Read.All"}):
            entra.token = lambda _, c=changes: answer_with(app_token(**c))  # type: ignore[misc]
            finding = await find(made)
            assert (finding.roles, finding.gone) == ({}, None)
            assert finding.unanswered is not None
        entra.token = lambda _: answer_with("opaque")
        assert (await find(made)).unanswered == "unknown: opaque_token"
        entra.token = lambda _: answer_with(app_token(roles=None, appid=None, azp=CLIENT))
        nothing = await find(made)
        assert (nothing.roles, nothing.unanswered) == ({MICROSOFT_GRAPH: frozenset()}, None)


def answer_with(access_token: str) -> httpx.Response:
    return httpx.Response(200, json={"access_token": access_token, "token_type": "Bearer", "expires_in": 3599})


def by_scope(refused: dict[str, int]) -> Answerer:
    def answer(request: httpx.Request) -> httpx.Response:
        scope = parse_qs(request.content.decode())["scope"][0].removesuffix("/.default")
        if scope in refused:
            return httpx.Response(400, json={"error": "x", "error_codes": [refused[scope]]})
        return answer_with(app_token())

    return answer


@pytest.mark.parametrize(
    ("refused", "gone", "unanswered", "absent"),
    [
        ({RESOURCE.identifier: 7000229, "teams": 7000229}, Reason.REMOVED, False, set()),
        ({RESOURCE.identifier: 7000112, "teams": 7000112}, Reason.DISABLED, False, set()),
        ({RESOURCE.identifier: 90002, "teams": 90002}, Reason.TENANT_DELETED, False, set()),
        ({"teams": 7000229}, None, True, set()),
        ({"teams": 500011}, None, False, {TEAMS.app_id}),
        ({RESOURCE.identifier: 90055, "teams": 7000229}, None, True, set()),
    ],
)
async def test_a_removal_is_one_only_where_no_resource_gives_a_token(
    refused: dict[str, int], gone: Reason | None, unanswered: bool, absent: set[str]
) -> None:
    entra = Entra()
    entra.token = by_scope(refused)
    async with world(entra) as made:
        finding = await find(made, RESOURCE, TEAMS)
    assert (finding.gone, finding.unanswered is not None, set(finding.absent)) == (gone, unanswered, absent)


async def test_of_several_wishes_to_be_left_alone_the_longest_counts() -> None:
    waits = {RESOURCE.identifier: "17", "teams": "5"}
    entra = Entra()

    def busy(request: httpx.Request) -> httpx.Response:
        scope = parse_qs(request.content.decode())["scope"][0].removesuffix("/.default")
        return httpx.Response(429, json={"error": "too_many"}, headers={"Retry-After": waits[scope]})

    entra.token = busy
    async with world(entra) as made:
        finding = await find(made, RESOURCE, TEAMS)
    assert (finding.retry_after, finding.throttled, finding.gone) == (17.0, True, None)
    assert entra.asked("/token") == 2


async def test_the_tenant_describes_itself_and_another_tenants_description_is_no_answer() -> None:
    entra = Entra()

    def organization(tenant_id: str) -> Answerer:
        domains = [{"name": "contoso.onmicrosoft.com", "isInitial": True}, {"name": "contoso.com", "isDefault": True}]
        body = {"value": [{"id": tenant_id, "displayName": " Contoso Ltd ", "verifiedDomains": domains}]}
        return lambda _: httpx.Response(200, json=body)

    async with world(entra) as made:
        entra.graph = organization(CONTOSO)
        found = (await find(made)).organization
        assert found is not None
        assert (found.name, found.primary_domain) == ("Contoso Ltd", "contoso.com")
        entra.graph = organization(FABRIKAM)
        assert (await find(made)).unanswered == "token_of_another_tenant"
        for answer, later in ((403, False), (429, True), (503, True), (200, False)):
            entra.graph = lambda _, status=answer: httpx.Response(status, json={"value": []})  # type: ignore[misc]
            finding = await find(made)
            assert (finding.organization, finding.organization_later, finding.unanswered) == (None, later, None)


async def test_delegated_permissions_are_read_where_the_set_may_read_them() -> None:
    entra = Entra()
    entra.token = lambda _: answer_with(app_token(roles=["Directory.Read.All"]))

    def graph(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/oauth2PermissionGrants"):
            assert "AllPrincipals" in request.url.params["$filter"]
            return httpx.Response(200, json={"value": [{"resourceId": "r", "scope": "User.Read openid"}]})
        if path.endswith("/servicePrincipals/r"):
            return httpx.Response(200, json={"appId": MICROSOFT_GRAPH})
        return httpx.Response(200, json={"id": "sp"}) if "servicePrincipals(" in path else httpx.Response(403, json={})

    entra.graph = graph
    async with world(entra) as made:
        finding = await find(made, delegated=True)
        assert finding.delegated == frozenset({(MICROSOFT_GRAPH, "User.Read"), (MICROSOFT_GRAPH, "openid")})
        entra.token = lambda _: answer_with(app_token())
        assert (await find(made, delegated=True)).delegated is Delegated.UNREADABLE


async def test_our_own_tenant_says_whether_the_fault_is_ours() -> None:
    entra = Entra()
    async with world(entra) as made:
        for answer, home in (
            (answer_with(app_token(tid=HOME)), Home.WORKS),
            (httpx.Response(401, json={"error": "invalid_client", "error_codes": [7000222]}), Home.OURS),
            (httpx.Response(401, json={"error": "invalid_client", "error_codes": [7000229]}), Home.OURS),
            (httpx.Response(503, text=""), Home.UNKNOWN),
            (httpx.Response(400, json={"error": "new", "error_codes": [424242]}), Home.UNKNOWN),
        ):
            entra.token = lambda _, said=answer: said  # type: ignore[misc]
            assert await made.probe.home(CLIENT) is home


def certificate() -> tuple[bytes, rsa.RSAPrivateKey]:
    """A key with a certificate of its own, as a PEM file holds them."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made + private, key
