"""Subscriptions in MongoDB. Every query names the owner, or is one that only the delivery path makes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo import ASCENDING, ReturnDocument

from notifier.notifications import Notice
from notifier.subscriptions import DisabledReason, Disabling, Owner, StoredSecret, Subscription

if TYPE_CHECKING:
    from shared.mongo import Collection as MongoCollection
    from shared.mongo import Database, Document


UNTOLD_AT_ONCE = 100
# What attempts have shown of an endpoint.
_SHOWN = ("failing_since", "throttled_until", "open_until", "trips")


class SubscriptionStore:
    """The subscriptions. Nothing is cached: a batch of events is matched against what is stored at that moment."""

    def __init__(self, database: "Database") -> None:
        self._rows: MongoCollection = database["subscriptions"]

    async def create_indexes(self) -> None:
        """Make the indexes; idempotent."""
        await self._rows.create_index([("app_id", ASCENDING), ("_id", ASCENDING)], name="app")
        await self._rows.create_index([("account_id", ASCENDING), ("_id", ASCENDING)], name="account")
        await self._rows.create_index("untold.at", name="untold", sparse=True)

    async def add(self, subscription: Subscription) -> None:
        """Write a new subscription."""
        await self._rows.insert_one(_document(subscription))

    async def get(self, subscription_id: str, owner: Owner) -> Subscription | None:
        """The subscription, or None if there is none or it belongs to somebody else."""
        row = await self._rows.find_one({"_id": subscription_id, **_owned_by(owner)})
        return _subscription(row) if row is not None else None

    async def list_of(self, owner: Owner, *, after: str | None, limit: int) -> list[Subscription]:
        """Subscriptions of the owner in the order of their ids, beyond the one given."""
        query: dict[str, Any] = _owned_by(owner)
        if after is not None:
            query["_id"] = {"$gt": after}
        return [_subscription(row) for row in await self._rows.find(query).sort("_id", ASCENDING).to_list(limit)]

    async def change(
        self,
        subscription_id: str,
        owner: Owner,
        changes: Mapping[str, object],
        *,
        now: datetime,
        anew: bool = False,
        hears_from: datetime | None = None,
    ) -> Subscription | None:
        """Set fields as their owner wishes; the new state, or None as for ``get``.

        ``anew`` forgets what attempts have shown so far; ``hears_from`` moves the beginning of what it listens to back.
        """
        update: dict[str, Any] = {"$set": {**changes, "updated_at": now}, "$inc": {"version": 1}}
        if anew:
            update["$unset"] = dict.fromkeys(_SHOWN, "")
        if hears_from is not None:
            update["$min"] = {"hears_from": hears_from}
        row: Document | None = await self._rows.find_one_and_update(
            {"_id": subscription_id, **_owned_by(owner)}, update, return_document=ReturnDocument.AFTER
        )
        return _subscription(row) if row is not None else None

    async def replace_secrets(self, subscription: Subscription, secrets: Sequence[StoredSecret], now: datetime) -> bool:
        """Set the secrets unless the subscription was changed since it was read; False then."""
        result = await self._rows.update_one(
            {"_id": subscription.id, "version": subscription.version},
            {"$set": {"secrets": [_secret_document(s) for s in secrets], "updated_at": now}, "$inc": {"version": 1}},
        )
        return bool(result.matched_count)

    async def delete(self, subscription_id: str, owner: Owner) -> bool:
        """Remove it; False if there was none."""
        return bool((await self._rows.delete_one({"_id": subscription_id, **_owned_by(owner)})).deleted_count)

    async def matching(self, notices: Iterable[Notice]) -> list[Subscription]:
        """Enabled subscriptions of any owner that one of the notices may concern."""
        apps: set[str] = set()
        accounts: set[str] = set()
        platform = False
        for notice in notices:
            apps.update(notice.apps())
            platform = platform or notice.platform
            if notice.account_id is not None:
                accounts.add(notice.account_id)
        owners: list[Document] = [{"account_id": {"$in": list(accounts)}}]
        owners.append({"app_id": {"$gt": ""}} if platform else {"app_id": {"$in": list(apps)}})
        rows = await self._rows.find({"enabled": True, "$or": owners}).to_list(None)
        return [_subscription(row) for row in rows]

    async def by_ids(self, ids: Collection[str]) -> dict[str, Subscription]:
        """Those of the subscriptions that exist, whoever owns them."""
        rows = await self._rows.find({"_id": {"$in": list(ids)}}).to_list(None)
        return {row["_id"]: _subscription(row) for row in rows}

    async def disable(
        self, subscription: Subscription, reason: DisabledReason, *, now: datetime
    ) -> Subscription | None:
        """Disable it, and note that its owner is to be told; its new state.

        None when it was disabled already, is gone, or is no longer what it was when the reason came up.
        """
        row: Document | None = await self._rows.find_one_and_update(
            {**_same(subscription), "enabled": True},
            {
                "$set": {
                    "enabled": False,
                    "disabled_reason": reason,
                    "disabled_at": now,
                    "updated_at": now,
                    "untold": {"version": subscription.version, "url": subscription.url, "reason": reason, "at": now},
                },
                "$inc": {"version": 1},
            },
            return_document=ReturnDocument.AFTER,
        )
        return _subscription(row) if row is not None else None

    async def untold(self, *, before: datetime) -> list[Disabling]:
        """Endpoints that were disabled before this time without their owners having been told."""
        rows = await self._rows.find({"untold.at": {"$lt": before}}).to_list(UNTOLD_AT_ONCE)
        return [Disabling(subscription_id=row["_id"], owner=_subscription(row).owner, **row["untold"]) for row in rows]

    async def told(self, disabling: Disabling) -> None:
        """The owner was told of this."""
        await self._rows.update_one(
            {"_id": disabling.subscription_id, "untold.version": disabling.version}, {"$unset": {"untold": ""}}
        )

    async def note_failing(self, subscription: Subscription, since: datetime) -> None:
        """Note since when the endpoint has only failed; the earliest time that any replica saw holds."""
        later: list[Document] = [{"failing_since": None}, {"failing_since": {"$gt": since}}]
        await self._rows.update_one({**_same(subscription), "$or": later}, {"$set": {"failing_since": since}})

    async def note_working(self, subscription: Subscription) -> Subscription | None:
        """Note that the endpoint has taken a message; its new state, or None when it was changed meanwhile."""
        row: Document | None = await self._rows.find_one_and_update(
            _same(subscription),
            {"$unset": {"failing_since": "", "open_until": "", "trips": ""}},
            return_document=ReturnDocument.AFTER,
        )
        return _subscription(row) if row is not None else None

    async def throttle(self, subscription: Subscription, until: datetime) -> None:
        """Hold back all deliveries to the endpoint until then, on every replica."""
        await self._rows.update_one(_same(subscription), {"$max": {"throttled_until": until}})

    async def trip(self, subscription: Subscription, *, until: datetime) -> Subscription | None:
        """Send nothing to the endpoint until then; its new state, or None when another attempt decided already."""
        row: Document | None = await self._rows.find_one_and_update(
            {**_same(subscription), "trips": subscription.trips or None},
            {"$set": {"open_until": until, "trips": subscription.trips + 1}},
            return_document=ReturnDocument.AFTER,
        )
        return _subscription(row) if row is not None else None

    async def begin_trial(self, subscription: Subscription, *, now: datetime, until: datetime) -> bool:
        """Take the one attempt by which all replicas see whether the endpoint works again; it lasts until then."""
        result = await self._rows.update_one(
            {**_same(subscription), "trips": subscription.trips, "open_until": {"$lte": now}},
            {"$set": {"open_until": until}},
        )
        return bool(result.matched_count)


def _same(subscription: Subscription) -> "Document":
    return {"_id": subscription.id, "version": subscription.version}


def _owned_by(owner: Owner) -> "dict[str, Any]":
    return {"app_id": owner.app_id, "account_id": owner.account_id}


def _secret_document(secret: StoredSecret) -> "Document":
    return {"sealed": secret.sealed, "created_at": secret.created_at, "expires_at": secret.expires_at}


def _document(subscription: Subscription) -> "Document":
    return {
        "_id": subscription.id,
        "app_id": subscription.owner.app_id,
        "account_id": subscription.owner.account_id,
        "url": subscription.url,
        "event_types": _listed(subscription.event_types),
        "account_ids": _listed(subscription.account_ids),
        "permission_set_ids": _listed(subscription.permission_set_ids),
        "concurrency": subscription.concurrency,
        "rate_limit": subscription.rate_limit,
        "retry_schedule": None if subscription.retry_schedule is None else list(subscription.retry_schedule),
        "paused": subscription.paused,
        "hears_from": subscription.hears_from,
        "description": subscription.description,
        "enabled": subscription.enabled,
        "secrets": [_secret_document(secret) for secret in subscription.secrets],
        "version": subscription.version,
        "created_at": subscription.created_at,
        "updated_at": subscription.updated_at,
    }


def _listed(values: frozenset[str] | None) -> list[str] | None:
    return None if values is None else sorted(values)


def _subscription(row: "Document") -> Subscription:
    event_types, account_ids = row["event_types"], row["account_ids"]
    return Subscription(
        id=row["_id"],
        owner=Owner(app_id=row["app_id"], account_id=row["account_id"]),
        url=row["url"],
        event_types=None if event_types is None else frozenset(event_types),
        account_ids=None if account_ids is None else frozenset(account_ids),
        permission_set_ids=None if (sets := row.get("permission_set_ids")) is None else frozenset(sets),
        concurrency=row.get("concurrency"),
        rate_limit=row.get("rate_limit"),
        retry_schedule=None if (waits := row.get("retry_schedule")) is None else tuple(waits),
        paused=row.get("paused", False),
        description=row["description"],
        enabled=row["enabled"],
        disabled_reason=row.get("disabled_reason"),
        disabled_at=row.get("disabled_at"),
        secrets=tuple(StoredSecret(**secret) for secret in row["secrets"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        failing_since=row.get("failing_since"),
        throttled_until=row.get("throttled_until"),
        hears_from=row.get("hears_from"),
        open_until=row.get("open_until"),
        trips=row.get("trips", 0),
    )
