"""deploy/Dockerfile: what it may not use, and what the images must be."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.deployment import PACKAGES, ROOT, SERVICES, Instruction, dockerfile

STAGES = {stage[0].arguments.rpartition(" AS ")[2]: stage for stage in dockerfile()[1:]}
IMAGES = ("topics", "replica-set", "service")


def ancestry(name: str) -> list[Instruction]:
    """The instructions that make a stage, those of its bases first."""
    stage = STAGES[name]
    base = stage[0].arguments.partition(" AS ")[0]
    return (ancestry(base) if base in STAGES else []) + stage


def all_instructions() -> list[Instruction]:
    return [instruction for stage in dockerfile() for instruction in stage]


def test_the_classic_builder_can_read_it() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert not re.search(r"^#\s*(syntax|escape)\s*=", text, re.MULTILINE)
    assert "<<" not in text
    for instruction in all_instructions():
        if instruction.name == "RUN":
            assert not instruction.arguments.startswith("--"), instruction
        if instruction.name in {"COPY", "ADD"}:
            flags = re.findall(r"--([a-z]+)", instruction.arguments)
            assert set(flags) <= {"from", "chown"}, instruction
        if instruction.name == "FROM":
            assert "--platform" not in instruction.arguments


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_user_without_rights(image: str) -> None:
    users = [instruction.arguments for instruction in ancestry(image) if instruction.name == "USER"]
    user, _, group = users[-1].partition(":")
    # Kubernetes can check runAsNonRoot only where the user is a number.
    assert int(user) >= 10000
    assert int(group) >= 10000


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_neither_compilers_nor_installers_of_ours(image: str) -> None:
    instructions = ancestry(image)
    assert instructions[0].arguments.startswith("${BASE}")
    runs = " ".join(instruction.arguments for instruction in instructions if instruction.name == "RUN")
    assert not re.search(r"apt-get|pip install|build-essential|gcc|curl", runs)
    copied = [instruction.arguments for instruction in instructions if instruction.name == "COPY"]
    assert not any("/build/tools" in arguments or "--from=tools" in arguments for arguments in copied)


def test_the_base_is_pinned() -> None:
    arguments = {instruction.arguments for instruction in dockerfile()[0]}
    assert "BASE=python:3.11-slim-bookworm" in arguments


def test_nothing_is_installed_whose_hash_is_not_locked() -> None:
    for instruction in all_instructions():
        for command in re.split(r"&&|;", instruction.arguments) if instruction.name == "RUN" else []:
            if re.search(r"\bpip install\b", command):
                assert "--require-hashes" in command or ("--no-index" in command and "--no-deps" in command), command
            if "pip wheel" in command:
                assert "--no-deps" in command
                assert "--no-build-isolation" in command


def test_third_party_packages_are_a_layer_that_our_sources_do_not_touch() -> None:
    for name in ("tools", "libraries"):
        copied = [instruction.arguments for instruction in STAGES[name] if instruction.name == "COPY"]
        assert all(arguments.startswith("locks/") for arguments in copied), name
        # An ARG that differs between services would make a layer for each of them.
        assert "MEMBER" not in " ".join(instruction.arguments for instruction in STAGES[name])
    order = [shlex.split(i.arguments)[0] for i in STAGES["runtime"] if i.name == "COPY" and "--from" in i.arguments]
    assert order == ["--from=libraries", "--from=member"]


@pytest.mark.parametrize("image", IMAGES)
def test_sigterm_reaches_the_process(image: str) -> None:
    for instruction in ancestry(image):
        if instruction.name in {"ENTRYPOINT", "CMD"}:
            command = json.loads(instruction.arguments)  # the shell form has no brackets, and a shell as process 1
            assert command[0] not in {"sh", "bash", "/bin/sh"}


def test_the_health_check_asks_whether_it_lives_and_not_whether_kafka_does() -> None:
    (check,) = [instruction.arguments for instruction in STAGES["service"] if instruction.name == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    assert command[-2:] == ["/opt/probe.py", "/livez"]


def test_all_that_is_copied_exists_and_reaches_the_builder() -> None:
    rules = (ROOT / ".dockerignore").read_text().split()
    assert "*" in rules
    reached = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    sources = [
        source
        for instruction in all_instructions()
        if instruction.name == "COPY" and "--from=" not in instruction.arguments
        for source in instruction.arguments.split()[:-1]
    ]
    members = [
        *(f"services/{name}" for name in SERVICES),
        *(f"deploy/{name}" for name in PACKAGES if name not in SERVICES),
        "shared",
    ]
    for lock in ("services", "stand-ins"):
        for member in members:
            for source in sources:
                path = Path(source.replace("${MEMBER}", member).replace("${LOCK}", lock))
                assert (ROOT / path).exists(), path
                assert any(path.match(rule) or path.is_relative_to(rule) for rule in reached), path


@pytest.mark.parametrize("member", [name for name in PACKAGES if name not in SERVICES])
def test_the_stand_ins_lock_holds_what_they_ask_for(member: str) -> None:
    text = (ROOT / "locks" / "stand-ins.lock").read_text()
    locked = {match[1]: match[2] for match in re.finditer(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)}
    everything = (ROOT / "locks" / "dev.lock").read_text()
    assert all(f"{name}=={version}" in everything for name, version in locked.items())
    assert "://" not in text
    project = tomllib.loads((ROOT / "deploy" / member / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(locked[requirement.name.lower()]), f"run make lock: {requirement}"


def test_a_member_s_program_has_the_name_of_its_folder() -> None:
    for name, package in PACKAGES.items():
        folder = ROOT / ("services" if name in SERVICES else "deploy") / name
        assert f'{name} = "{package}.__main__:main"' in (folder / "pyproject.toml").read_text()
