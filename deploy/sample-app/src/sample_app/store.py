"""What the app remembers, in one SQLite file: durable before a push is answered."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from sample_app import state
from sample_app.pushes import Push, Verdict, judge

_KEPT_STRANGERS = 1_000
_KEPT_SECRETS = 2

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to the webhook endpoint. ``body`` is None for what was not verified."""

    seq: int
    received_at: str
    app_id: str | None
    webhook_id: str
    type: str | None
    verdict: Verdict
    body: str | None


class Store:
    """The app's memory. Not safe for use by several threads at once: see ``StoreThread``.

    Every method commits with a full sync before it returns, so that what was answered survives ``kill -9`` and a
    power cut. All raise ``sqlite3.Error`` when the disk does not do its part.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "sample-app.sqlite3"
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(files("sample_app").joinpath("schema.sql").read_text(encoding="utf-8"))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def accept(self, *, app_id: str, webhook_id: str, push: Push | None, body: str) -> Verdict:
        """Take in a verified push: remember its id, judge it, act on it, all in one transaction.

        ``push`` is None for a body that could not be read.
        """
        with self._transaction() as sql:
            now = _now()
            first = sql.execute("INSERT OR IGNORE INTO accepted VALUES (?, ?, ?)", (app_id, webhook_id, now)).rowcount
            if not first:
                verdict = Verdict.DUPLICATE
            elif push is None:
                verdict = Verdict.UNREADABLE
            else:
                verdict = judge(push, state.known(sql, app_id, push))
                if verdict is Verdict.APPLIED:
                    state.apply(sql, app_id, push, now)
            kind = push.type if push else None
            _add_arrival(sql, now, app_id=app_id, webhook_id=webhook_id, kind=kind, verdict=verdict, body=body)
        return verdict

    def turn_away(self, *, webhook_id: str, verdict: Verdict) -> None:
        """Note an arrival that was refused. Of these only the last thousand are kept: anybody can send them."""
        with self._transaction() as sql:
            _add_arrival(sql, _now(), app_id=None, webhook_id=webhook_id[:200], kind=None, verdict=verdict, body=None)
            sql.execute(
                "DELETE FROM arrivals WHERE app_id IS NULL AND seq <= (SELECT max(seq) FROM arrivals) - ?",
                (_KEPT_STRANGERS,),
            )

    def arrivals(
        self, *, limit: int, before: int | None = None, app_id: str | None = None, webhook_id: str | None = None
    ) -> list[Arrival]:
        """Arrivals, newest first, below the sequence number ``before``."""
        rows = self._connection.execute(
            "SELECT * FROM arrivals WHERE (?1 IS NULL OR seq < ?1) AND (?2 IS NULL OR app_id = ?2) "
            "AND (?3 IS NULL OR webhook_id = ?3) ORDER BY seq DESC LIMIT ?4",
            (before, app_id, webhook_id, limit),
        )
        return [Arrival(**{**row, "verdict": Verdict(row["verdict"])}) for row in map(dict, rows)]

    def last_accepted_at(self, app_id: str) -> datetime | None:
        """When the last push for this app was accepted."""
        query = "SELECT max(received_at) AS last FROM accepted WHERE app_id = ?"
        row = self._connection.execute(query, (app_id,)).fetchone()
        return datetime.fromisoformat(row["last"]) if row["last"] else None

    def grants(self) -> list[state.GrantRow]:
        """What every app knows about every tenant, in a stable order."""
        return state.grants(self._connection)

    def secrets(self) -> list[tuple[str, str]]:
        """Pairs of app id and secret that may sign a push, newest first."""
        rows = self._connection.execute("SELECT app_id, secret FROM secrets ORDER BY seq DESC")
        return [(row["app_id"], row["secret"]) for row in rows]

    def has_secret(self, *, app_id: str, subscription_id: str) -> bool:
        """Whether the secret of this subscription is known."""
        query = "SELECT 1 FROM secrets WHERE app_id = ? AND subscription_id = ?"
        return self._connection.execute(query, (app_id, subscription_id)).fetchone() is not None

    def keep_secret(self, *, app_id: str, subscription_id: str, secret: str) -> None:
        """Remember a new secret. The one before stays valid: a push on its way may still be signed with it."""
        with self._transaction() as sql:
            sql.execute(
                "INSERT INTO secrets (app_id, subscription_id, secret) VALUES (?, ?, ?)",
                (app_id, subscription_id, secret),
            )
            sql.execute(
                "DELETE FROM secrets WHERE app_id = ?1 AND seq NOT IN "
                "(SELECT seq FROM secrets WHERE app_id = ?1 ORDER BY seq DESC LIMIT ?2)",
                (app_id, _KEPT_SECRETS),
            )

    def forget_before(self, days: int) -> None:
        """Drop arrivals and ids older than this; what is known about tenants stays."""
        limit = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")
        with self._transaction() as sql:
            sql.execute("DELETE FROM arrivals WHERE received_at < ?", (limit,))
            sql.execute("DELETE FROM accepted WHERE received_at < ?", (limit,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


class StoreThread:
    """Runs a store's work one after the other on a thread of its own, so that a slow disk stops nothing else."""

    def __init__(self, directory: Path) -> None:
        self._store = Store(directory)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def run(self, work: Callable[[Store], Result]) -> Result:
        """What ``work`` returns, or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store)

    def close(self) -> None:
        """Finish what was begun and let go of the file."""
        self._thread.shutdown(cancel_futures=True)
        self._store.close()


def _add_arrival(
    sql: sqlite3.Connection,
    now: str,
    *,
    app_id: str | None,
    webhook_id: str,
    kind: str | None,
    verdict: Verdict,
    body: str | None,
) -> None:
    sql.execute(
        "INSERT INTO arrivals (received_at, app_id, webhook_id, type, verdict, body) VALUES (?, ?, ?, ?, ?, ?)",
        (now, app_id, webhook_id, kind, verdict.value, body),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
