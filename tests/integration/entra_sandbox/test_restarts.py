"""What a sandbox keeps over restarts and kills, and how it refuses to start."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Starter = Callable[..., Any]


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(starter: Starter, tmp_path: Path, ids: Any) -> None:
    first = starter(tmp_path)
    ca = Path(first.ca).read_bytes()
    api = f"{first.browser}/sandbox/api"
    httpx.post(f"{api}/tenants/{ids.contoso}/apps/{ids.client}/consent").raise_for_status()
    httpx.patch(f"{api}/tenants/{ids.fabrikam}", json={"display_name": "Fabrikam GmbH"}).raise_for_status()
    httpx.delete(f"{api}/tenants/{ids.home}").raise_for_status()
    httpx.patch(f"{api}/behaviour", json={"decline": "cancel"}).raise_for_status()
    httpx.post(f"{api}/faults", json={"kind": "throttle", "endpoint": "graph", "remaining": 5}).raise_for_status()
    httpx.post(f"{api}/token-flaws", json={"flaw": "expired"}).raise_for_status()
    kids = kids_of(first)

    first.process.send_signal(signal.SIGKILL)
    first.process.wait(10)
    second = starter(tmp_path)

    api = f"{second.browser}/sandbox/api"
    assert Path(second.ca).read_bytes() == ca
    assert len(httpx.get(f"{api}/tenants/{ids.contoso}/apps/{ids.client}").json()["app_roles"]) == 3
    assert httpx.get(f"{api}/tenants/{ids.fabrikam}").json()["display_name"] == "Fabrikam GmbH"
    assert httpx.get(f"{api}/tenants/{ids.home}").status_code == 404
    assert httpx.get(f"{api}/behaviour").json()["decline"] == "cancel"
    assert httpx.get(f"{api}/faults").json()["items"][0]["remaining"] == 5
    assert httpx.get(f"{api}/token-flaws").json()["items"][0]["flaw"] == "expired"
    assert kids_of(second) == kids


def kids_of(running: Any) -> list[str]:
    with httpx.Client(verify=running.trust()) as wire:
        return [key["kid"] for key in wire.get(f"{running.login}/common/discovery/v2.0/keys").json()["keys"]]


def test_a_browser_stays_signed_in_over_a_restart_of_the_same_address(
    starter: Starter, tmp_path: Path, ids: Any, free_port: Callable[[], int]
) -> None:
    port = str(free_port())
    first = starter(tmp_path, HTTP__PORT=port)
    request = {
        "client_id": ids.client,
        "redirect_uri": ids.proof,
        "response_type": "code",
        "scope": "openid",
        "prompt": "none",
    }
    api, authorize = f"{first.browser}/sandbox/api", f"{first.browser}/{ids.contoso}/oauth2/v2.0/authorize"
    httpx.post(f"{api}/tenants/{ids.contoso}/apps/{ids.client}/consent").raise_for_status()
    with httpx.Client() as browser:
        page = browser.get(authorize, params={**request, "prompt": "login"}).text
        context = page.split('name="context" value="')[1].split('"')[0]
        form = {"context": context, "pick": "admin@contoso.com"}
        assert "code=" in browser.post(f"{first.browser}/{ids.contoso}/login", data=form).headers["location"]

        first.process.terminate()
        assert first.process.wait(10) == 0
        starter(tmp_path, HTTP__PORT=port)

        assert "code=" in browser.get(authorize, params=request).headers["location"]


def test_redirect_uris_follow_the_settings(starter: Starter, ids: Any) -> None:
    running = starter(GATEWAY__PUBLIC_URLS="https://one.example, https://two.example/", GATEWAY__REDIRECT_PATHS="/cb")

    for uri, good in (("https://one.example/cb", True), ("https://two.example/cb", True), (ids.callback, False)):
        params = {"client_id": ids.client, "redirect_uri": uri, "scope": "https://graph.microsoft.com/.default"}
        response = httpx.get(f"{running.browser}/{ids.contoso}/v2.0/adminconsent", params=params)
        assert ("AADSTS50011" not in response.text) is good


def test_the_first_start_costs_less_than_two_seconds_of_one_processor(starter: Starter) -> None:
    """Measured in processor time: how long that takes is a matter of what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = starter()
    running.process.terminate()
    assert running.process.wait(10) == 0

    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_hanging_requests_do_not_hold_up_the_end(starter: Starter, ids: Any) -> None:
    running = starter()
    fault = {"kind": "hang", "endpoint": "discovery", "seconds": 600}
    httpx.post(f"{running.browser}/sandbox/api/faults", json=fault).raise_for_status()
    url = f"{running.login}/{ids.contoso}/v2.0/.well-known/openid-configuration"
    with httpx.Client(verify=running.trust(), timeout=0.2) as wire, pytest.raises(httpx.ReadTimeout):
        wire.get(url)

    running.process.terminate()

    assert running.process.wait(5) == 0


def test_a_wrong_setting_ends_the_start_with_one_line(tmp_path: Path) -> None:
    ended = refuse_to_start({"HTTP__PORT": "ninety", "DATA_DIR": str(tmp_path)})

    assert ended.returncode == 2
    assert ended.stderr.startswith("entra-sandbox: HTTP__PORT: ")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_named(sandbox: Any, tmp_path: Path) -> None:
    taken = sandbox.graph.rpartition(":")[2]
    ended = refuse_to_start({"HTTP__PORT": "0", "LOGIN__PORT": "0", "GRAPH__PORT": taken, "DATA_DIR": str(tmp_path)})

    assert ended.returncode == 2
    assert f"GRAPH__PORT: port {taken} on localhost cannot be used" in ended.stderr


def refuse_to_start(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if "__" not in name}
    return subprocess.run(
        [sys.executable, "-m", "entra_sandbox"],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
