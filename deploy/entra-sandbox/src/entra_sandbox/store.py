"""Documents kept in one SQLite file. A write has reached the disk when it returns."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item", bound=BaseModel)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT, PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""


class Store:
    """A table of JSON documents by kind and key; a document without body says that the key was deleted."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk before the caller may acknowledge anything.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(_SCHEMA)

    def load(self, kind: str) -> Iterator[tuple[str, str | None]]:
        """Every document of a kind, deleted ones with None."""
        yield from self._connection.execute("SELECT key, body FROM documents WHERE kind = ?", (kind,)).fetchall()

    def write(self, kind: str, documents: dict[str, str | None]) -> None:
        """Puts all documents in one transaction."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT INTO documents (kind, key, body) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                [(kind, key, body) for key, body in documents.items()],
            )

    def remove(self, kind: str, keys: list[str]) -> None:
        """Takes documents out altogether, in one transaction."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "DELETE FROM documents WHERE kind = ? AND key = ?", [(kind, key) for key in keys]
            )

    def clear(self) -> None:
        """Forgets everything but the keys that tokens and cookies are signed with."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM documents WHERE kind NOT IN ('signing_key', 'secret')")

    def close(self) -> None:
        """Releases the file."""
        self._connection.close()


class Collection(Generic[Item]):
    """Items of one kind by key: what the seed holds, overlaid by what was changed since and is kept in the store."""

    def __init__(
        self,
        store: Store,
        kind: str,
        model: type[Item],
        *,
        seed: Callable[[], dict[str, Item]] = dict,
    ) -> None:
        self._store, self._kind, self._model, self._seed = store, kind, model, seed
        self._items: dict[str, Item] = {}
        self._seeded: frozenset[str] = frozenset()
        self.reload()

    def reload(self) -> None:
        """Takes the seed and what the store holds, as at a start."""
        self._items = dict(self._seed())
        self._seeded = frozenset(self._items)
        for key, body in self._store.load(self._kind):
            if body is None:
                self._items.pop(key, None)
            else:
                self._items[key] = self._model.model_validate_json(body)

    def get(self, key: str) -> Item | None:
        """The item of that key."""
        return self._items.get(key)

    def items(self) -> list[tuple[str, Item]]:
        """All items with their keys."""
        return list(self._items.items())

    def values(self) -> list[Item]:
        """All items, in the order in which they arrived."""
        return list(self._items.values())

    def put(self, key: str, item: Item) -> Item:
        """Stores one item; it is used only after it is on the disk."""
        return self.put_all({key: item})[0]

    def put_all(self, items: dict[str, Item]) -> list[Item]:
        """Stores many items in one transaction."""
        self._store.write(self._kind, {key: item.model_dump_json() for key, item in items.items()})
        self._items.update(items)
        return list(items.values())

    def delete(self, *keys: str) -> None:
        """Deletes items, for later starts as well, whether or not the seed has them."""
        self._store.remove(self._kind, [key for key in keys if key not in self._seeded])
        seeded = [key for key in keys if key in self._seeded]
        if seeded:
            self._store.write(self._kind, dict.fromkeys(seeded))
        for key in keys:
            self._items.pop(key, None)
