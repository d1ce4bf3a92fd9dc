"""Documents on disk: the seed below, what was changed above."""

from pathlib import Path

from entra_sandbox.model import Frozen
from entra_sandbox.store import Collection, Store


class Note(Frozen):
    text: str


def notes(path: Path) -> Collection[Note]:
    return Collection(Store(path), "note", Note, seed=lambda: {"seeded": Note(text="from the seed")})


def test_changes_lie_over_the_seed_and_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    first = notes(path)
    first.put("seeded", Note(text="changed"))
    first.put("own", Note(text="new"))
    first.put("passing", Note(text="soon gone"))
    first.delete("passing")

    second = notes(path)

    assert {key: item.text for key, item in second.items()} == {"seeded": "changed", "own": "new"}


def test_deleting_leaves_a_mark_only_where_the_seed_would_bring_it_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    collection = Collection(store, "note", Note, seed=lambda: {"seeded": Note(text="x")})
    collection.put("own", Note(text="y"))

    collection.delete("own", "seeded")

    assert dict(store.load("note")) == {"seeded": None}
    assert collection.values() == []


def test_clearing_keeps_keys_and_secrets(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    for kind in ("note", "secret", "signing_key"):
        store.write(kind, {"a": "{}"})

    store.clear()

    assert [kind for kind in ("note", "secret", "signing_key") if dict(store.load(kind))] == ["secret", "signing_key"]
