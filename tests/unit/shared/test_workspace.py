"""The workspace itself: what is imported is what is installed, and the locks are usable everywhere."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import shared

ROOT = Path(__file__).parents[3]
MEMBERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
OURS = {tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]["name"] for member in MEMBERS}


def _locked(name: str) -> dict[str, Version]:
    text = (ROOT / "locks" / f"{name}.lock").read_text()
    return {match[1]: Version(match[2]) for match in re.finditer(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)}


def test_shared_is_the_installed_package_and_not_the_folder_of_that_name() -> None:
    assert shared.__file__ is not None
    assert Path(shared.__file__) == ROOT / "shared" / "src" / "shared" / "__init__.py"


@pytest.mark.parametrize("name", ["bootstrap", "services", "demo", "dev"])
def test_locks_hold_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.lock").read_text()
    assert "://" not in text
    assert text.count("--hash=sha256:") >= len(_locked(name)) > 0


@pytest.mark.parametrize("member", MEMBERS)
def test_the_locks_satisfy_what_the_members_ask_for(member: str) -> None:
    lock = _locked("services" if member.startswith(("shared", "services")) else "demo")
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        if requirement.name not in OURS:
            assert requirement.specifier.contains(lock[requirement.name.lower()]), f"run make lock: {requirement}"


def test_all_locks_agree_on_versions() -> None:
    everything = _locked("dev")
    for name in ("services", "demo"):
        assert _locked(name).items() <= everything.items()
