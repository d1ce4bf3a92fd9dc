import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.folder import StackFolder

HOLD = """
import sys
from pathlib import Path
from launcher.folder import StackFolder
with StackFolder(Path(sys.argv[1])).locked({"console": "http://localhost:8080"}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    made = StackFolder(tmp_path).secrets()
    assert StackFolder(tmp_path).secrets() == made
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert len(base64.urlsafe_b64decode(made["DELIVERY__SECRETS_KEY"])) == 32
    assert len(made["CONSOLE__SESSION_SECRET"]) >= 32


def test_another_stack_on_the_same_folder_is_recognised_until_it_ends(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    assert folder.running() is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert folder.running() == {"pid": other.pid, "console": "http://localhost:8080"}
        with pytest.raises(LauncherError, match=rf"runs already \(process {other.pid}, http://localhost:8080\)"):
            folder.locked({}).__enter__()
        other.kill()
        other.wait()
    assert folder.running() is None
    with folder.locked({}):
        assert os.getpid()
