"""Accounting after a disaster: what was acknowledged against what is on Kafka, in the registry and at the receiver."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from shared.events import Event, GrantData, PermissionStatusChanged, decode
from support.platform import Platform
from support.receiver import Receiver
from support.records import records_on


@dataclass(frozen=True)
class Balance:
    """All grant events, in the order in which each key's appear."""

    consent: list[Event]
    status: list[Event]

    @classmethod
    async def read(cls, platform: Platform) -> "Balance":
        """What is on the two topics now."""
        return cls(
            consent=await _events(platform, "entra.consent-events.v1"),
            status=await _events(platform, "entra.permission-status.v1"),
        )

    def attempts(self) -> set[str]:
        """The attempts that led to an event."""
        return {data.attempt_id for data in _grants(self.consent) if data.attempt_id}

    def assert_in_order(self) -> None:
        """A key's revisions rise with every first appearance, on both topics."""
        for events in (self.consent, self.status):
            seen: dict[str, list[int]] = defaultdict(list)
            known: set[str] = set()
            for event in events:
                if event.id not in known and isinstance(event.data, GrantData):
                    known.add(event.id)
                    seen[event.data.key()].append(event.data.revision)
            for key, revisions in seen.items():
                assert revisions == sorted(set(revisions)), f"{key}: {revisions}"

    def assert_each_change_has_one_status_event(self) -> None:
        """Every consent event is followed by a status event of its own, however often either appears."""
        causes = {(data.key(), data.revision) for data in _grants(self.consent)}
        effects = defaultdict(set)
        for event in self.status:
            if isinstance(event.data, PermissionStatusChanged):
                effects[event.data.key(), event.data.revision].add(event.id)
        assert set(effects) == causes
        assert all(len(ids) == 1 for ids in effects.values())

    def assert_pushed(self, receiver: Receiver, *, app: str) -> None:
        """Every status event that concerns the app has come to its endpoint, with the event's id."""
        due = {
            event.id
            for event in self.status
            if isinstance(event.data, PermissionStatusChanged) and app in {*event.data.apps, *event.data.previous_apps}
        }
        assert due <= receiver.ids(), f"{len(due - receiver.ids())} of {len(due)} never came"

    async def assert_registry_is_current(self, platform: Platform) -> None:
        """The registry holds the last revision of every tenant."""
        newest: dict[tuple[str, str], int] = defaultdict(int)
        for data in _grants(self.consent):
            newest[data.account_id, data.tenant_id] = max(newest[data.account_id, data.tenant_id], data.revision)
        for (account, tenant_id), revision in newest.items():
            tenant = (await platform.api("registry", f"/v1/tenants/{tenant_id}", account=account)).json()
            assert tenant["revision"] == revision


def _grants(events: Iterable[Event]) -> list[GrantData]:
    return [event.data for event in events if isinstance(event.data, GrantData)]


async def _events(platform: Platform, topic: str) -> list[Event]:
    return [decode(record.headers, record.value) for record in await records_on(platform.bootstrap_servers, topic)]
