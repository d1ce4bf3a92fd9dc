"""A sandbox in a process of its own, a browser that fills in its forms, and a client of its admin API."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

CONTOSO = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
FABRIKAM = "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"
HOME = "c3a9e0d4-75b1-4e6c-8d2f-91b7a4f0e356"
CLIENT = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01"
CALLBACK = "http://localhost:8080/consent/callback"
PROOF = "http://localhost:8080/consent/proof"


@dataclass(frozen=True)
class Ids:
    """Names of the seed that tests use."""

    contoso: str = CONTOSO
    fabrikam: str = FABRIKAM
    home: str = HOME
    client: str = CLIENT
    callback: str = CALLBACK
    proof: str = PROOF
    graph_app: str = "00000003-0000-0000-c000-000000000000"


@pytest.fixture(scope="session")
def ids() -> Ids:
    return Ids()


@dataclass
class Running:
    """A sandbox process."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    browser: str
    login: str
    graph: str
    ca: str

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


def start(data_dir: Path, **environment: str) -> Running:
    """Starts a sandbox and waits until it answers."""
    endpoints = data_dir / "endpoints.json"
    endpoints.unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if "__" not in name}
    ports = {"HTTP__PORT": "0", "LOGIN__PORT": "0", "GRAPH__PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "entra_sandbox"],
        env={**inherited, **ports, "DATA_DIR": str(data_dir), "LOG__LEVEL": "warning", **environment},
    )
    deadline = time.monotonic() + 30
    while not endpoints.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the sandbox did not start: {process.wait()}")
        time.sleep(0.01)
    return Running(process, data_dir, **json.loads(endpoints.read_text()))


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts sandboxes that are stopped at the end."""
    started: list[Running] = []

    def begin(data_dir: Path | None = None, **environment: str) -> Running:
        started.append(start(data_dir or tmp_path_factory.mktemp("sandbox"), **environment))
        return started[-1]

    yield begin
    for running in started:
        running.process.terminate()
    for running in started:
        running.process.wait(10)


@pytest.fixture(scope="session")
def shared_sandbox(starter: Callable[..., Running]) -> Running:
    return starter()


@pytest.fixture
def sandbox(shared_sandbox: Running) -> Running:
    """The sandbox of the whole run, as at its first start."""
    httpx.post(f"{shared_sandbox.browser}/sandbox/api/reset").raise_for_status()
    return shared_sandbox


@pytest.fixture
def admin(sandbox: Running) -> Iterator[httpx.Client]:
    """The admin API."""
    with httpx.Client(base_url=f"{sandbox.browser}/sandbox/api/") as client:
        yield client


@pytest.fixture
def wire(sandbox: Running) -> Iterator[httpx.Client]:
    """A service that calls the https listeners."""
    with httpx.Client(verify=sandbox.trust(), trust_env=False, timeout=10) as client:
        yield client


@dataclass
class Form:
    """A form of a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: dict[str, Form] = {}
        self._current: Form | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._current = self.forms[values.get("id", str(len(self.forms)))] = Form(values.get("action", ""))
        elif tag == "input" and self._current and values.get("type") == "hidden":
            self._current.fields[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._current = None


class Person:
    """Somebody with a browser; stops where the browser would leave the sandbox."""

    def __init__(self, sandbox: Running) -> None:
        self._sandbox = sandbox
        self.client = httpx.Client(verify=False, trust_env=False)
        self.response: httpx.Response | None = None

    def open(self, url: str, **params: str) -> "Person":
        return self._follow(self.client.get(url, params=params or None))

    def adminconsent(self, tenant: str, **overrides: str) -> "Person":
        params = {
            "client_id": CLIENT,
            "redirect_uri": CALLBACK,
            "state": "st-1",
            "scope": "https://graph.microsoft.com/.default",
            **overrides,
        }
        given = {name: value for name, value in params.items() if value}
        return self.open(f"{self._sandbox.browser}/{tenant}/v2.0/adminconsent", **given)

    def authorize(self, tenant: str, **overrides: str) -> "Person":
        params = {
            "client_id": CLIENT,
            "redirect_uri": PROOF,
            "response_type": "code",
            "scope": "openid profile",
            "state": "st-1",
            "nonce": "n-1",
            **overrides,
        }
        given = {name: value for name, value in params.items() if value}
        return self.open(f"{self._sandbox.browser}/{tenant}/oauth2/v2.0/authorize", **given)

    def sign_in(self, name: str, password: str = "Passw0rd!") -> "Person":
        return self.submit("sign-in", username=name, password=password)

    def accept(self, **fields: str) -> "Person":
        return self.submit("consent", decision="accept", **fields)

    def submit(self, form_id: str, **fields: str) -> "Person":
        form = self.forms[form_id]
        assert self.response is not None
        return self._follow(
            self.client.post(urljoin(str(self.response.url), form.action), data={**form.fields, **fields})
        )

    def _follow(self, response: httpx.Response) -> "Person":
        while response.is_redirect and response.headers["location"].startswith((self._sandbox.browser, "/")):
            response = self.client.get(urljoin(str(response.url), response.headers["location"]))
        self.response = response
        return self

    @property
    def forms(self) -> dict[str, Form]:
        return _Page(self.text).forms

    @property
    def text(self) -> str:
        assert self.response is not None
        return self.response.text

    @property
    def heading(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.text, re.DOTALL)
        return found.group(1) if found else ""

    @property
    def location(self) -> str:
        """Where the browser is sent, outside the sandbox."""
        assert self.response is not None
        assert self.response.is_redirect, f"{self.response.status_code}: {self.heading}"
        return self.response.headers["location"]

    @property
    def callback(self) -> dict[str, str]:
        """The parameters that the client is called back with."""
        parts = urlsplit(self.location)
        values = parse_qs(parts.query or parts.fragment, keep_blank_values=True, strict_parsing=True)
        assert all(len(items) == 1 for items in values.values())
        return {name: items[0] for name, items in values.items()}


@pytest.fixture
def people(sandbox: Running) -> Iterator[Callable[[], Person]]:
    """Makes people, each with a browser of their own."""
    made: list[Person] = []

    def person() -> Person:
        made.append(Person(sandbox))
        return made[-1]

    yield person
    for item in made:
        item.client.close()


@pytest.fixture
def person(people: Callable[[], Person]) -> Person:
    return people()


@pytest.fixture
def consented(person: Person, ids: Ids) -> Person:
    """A browser in which Contoso's administrator has just accepted."""
    person.adminconsent(ids.contoso).sign_in("admin@contoso.com").accept()
    assert "error" not in person.callback
    return person


@pytest.fixture
def token_request(sandbox: Running, wire: httpx.Client, ids: Ids) -> Callable[..., httpx.Response]:
    """Asks for an app-only token of the first registration in Contoso, unless told otherwise."""

    def ask(tenant: str = ids.contoso, **overrides: str) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": ids.client,
            "client_secret": "sandbox-secret",
            "scope": "https://graph.microsoft.com/.default",
            **overrides,
        }
        return wire.post(f"{sandbox.login}/{tenant}/oauth2/v2.0/token", data={k: v for k, v in form.items() if v})

    return ask


@pytest.fixture
def graph_get(
    sandbox: Running, wire: httpx.Client, token_request: Callable[..., httpx.Response]
) -> Callable[..., httpx.Response]:
    """Calls Graph with an app-only token of the first registration in Contoso, unless told otherwise."""

    def get(path: str, *, tenant: str = CONTOSO, token: str | None = None, **overrides: Any) -> httpx.Response:
        bearer = token or token_request(tenant, **overrides).json()["access_token"]
        return wire.get(f"{sandbox.graph}/v1.0{path}", headers={"Authorization": f"Bearer {bearer}"})

    return get


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port that nobody uses."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
