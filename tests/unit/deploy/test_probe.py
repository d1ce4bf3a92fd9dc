"""deploy/probe.py, which the images' health checks run."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.deployment import ROOT


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/livez": 200, "/readyz": 503}[self.path])
        self.end_headers()
        self.wfile.write(b'{"status":"here"}')

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def probe(path: str, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", ROOT / "deploy" / "probe.py", path],
        env={"HTTP__PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(("path", "status", "shown"), [("/livez", 0, "200"), ("/readyz", 1, "503")])
def test_it_tells_by_its_status_what_the_service_answers(path: str, status: int, shown: str, port: int) -> None:
    outcome = probe(path, port)
    assert outcome.returncode == status
    assert outcome.stdout == f'{path}: {shown} {{"status":"here"}}\n'


def test_it_says_in_one_line_that_nobody_listens(port: int) -> None:
    outcome = probe("/livez", 1)
    assert outcome.returncode == 1
    assert outcome.stderr.count("\n") == 1
