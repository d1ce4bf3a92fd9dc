"""The Chromium of this machine, and what is missing to drive it."""

import shutil
import subprocess
from pathlib import Path

import playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Without these Chromium looks for its maker's servers.
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def missing() -> str | None:
    """Why no browser can be driven here, with what to install; None if one can."""
    if CHROMIUM is None:
        return "there is no Chromium (on Debian: apt-get install chromium libatomic1)"
    driver = Path(playwright.__file__).parent / "driver" / "node"
    try:
        subprocess.run([driver, "--version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "Playwright's driver does not start (on Debian: apt-get install libatomic1)"
    return None
