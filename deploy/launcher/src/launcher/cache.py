"""Where this user keeps what is fetched once and used by every clone of the repository."""

import os
from pathlib import Path


def user_cache() -> Path:
    """The platform's folder in the user's cache (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "consent-platform"
