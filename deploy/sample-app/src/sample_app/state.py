"""What the app knows about each tenant: how it is read before a push is judged, and written after."""

import json
import sqlite3
from dataclasses import dataclass

from sample_app.pushes import Known, Push, StatusChanged, TenantChange


@dataclass(frozen=True, slots=True)
class GrantRow:
    """One permission set on one tenant, as the app knows it. ``usable`` already minds the app's one-tenant rule."""

    app_id: str
    account_id: str
    tenant_id: str
    tenant_name: str | None
    permission_set_id: str
    status: str
    usable: bool
    reason: str | None
    missing: tuple[str, ...]
    revision: int
    epoch: int | None
    changed_at: str


def known(sql: sqlite3.Connection, app_id: str, push: Push) -> Known:
    """What the app knows about the subject of a push."""
    change = push.change
    if change is None:
        return Known()
    key = (app_id, change.account_id, change.tenant.id)
    tenant = sql.execute(
        "SELECT name_revision, removed_revision FROM tenants WHERE app_id = ? AND account_id = ? AND tenant_id = ?", key
    ).fetchone()
    slot = sql.execute("SELECT epoch FROM slots WHERE app_id = ? AND account_id = ?", key[:2]).fetchone()
    grant = None
    if isinstance(change, StatusChanged):
        grant = sql.execute(
            "SELECT revision FROM grants WHERE app_id = ? AND account_id = ? AND tenant_id = ? "
            "AND permission_set_id = ?",
            (*key, change.permission_set_id),
        ).fetchone()
    return Known(
        grant_revision=grant["revision"] if grant else 0,
        name_revision=tenant["name_revision"] if tenant else 0,
        removed_revision=tenant["removed_revision"] if tenant else 0,
        slot_epoch=slot["epoch"] if slot else 0,
    )


def apply(sql: sqlite3.Connection, app_id: str, push: Push, now: str) -> None:
    """Act on a push that is news."""
    match push.type, push.change:
        case "tenant.removed", TenantChange() as change:
            key = (app_id, change.account_id, change.tenant.id)
            _name_tenant(sql, app_id, change)
            sql.execute(
                "UPDATE tenants SET removed_revision = ? WHERE app_id = ? AND account_id = ? AND tenant_id = ?",
                (change.revision, *key),
            )
            sql.execute(
                "DELETE FROM grants WHERE app_id = ? AND account_id = ? AND tenant_id = ? AND revision < ?",
                (*key, change.revision),
            )
        case _, TenantChange() as change:
            _name_tenant(sql, app_id, change)
        case _, StatusChanged() as change:
            _name_tenant(sql, app_id, change)
            _save_grant(sql, app_id, change, now)


def grants(sql: sqlite3.Connection) -> list[GrantRow]:
    """What every app knows about every tenant, in a stable order.

    Access under an epoch that the app's slot has left behind is no access, whatever its last push said.
    """
    rows = sql.execute(
        "SELECT g.*, t.name AS tenant_name, g.usable AND coalesce(g.epoch >= s.epoch, 1) AS usable_now "
        "FROM grants g LEFT JOIN tenants t USING (app_id, account_id, tenant_id) "
        "LEFT JOIN slots s USING (app_id, account_id) "
        "ORDER BY g.app_id, g.account_id, t.name, g.tenant_id, g.permission_set_id"
    )
    return [_grant_row(row) for row in rows]


def _save_grant(sql: sqlite3.Connection, app_id: str, change: StatusChanged, now: str) -> None:
    missing = json.dumps([permission.value for permission in change.missing])
    key = (app_id, change.account_id, change.tenant.id, change.permission_set_id)
    state = (change.status, change.usable, change.reason, missing, change.revision, change.epoch, now)
    sql.execute("INSERT OR REPLACE INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, *state))
    if change.epoch is not None:
        sql.execute(
            "INSERT INTO slots VALUES (?, ?, ?) "
            "ON CONFLICT (app_id, account_id) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
            (app_id, change.account_id, change.epoch),
        )


def _name_tenant(sql: sqlite3.Connection, app_id: str, change: StatusChanged | TenantChange) -> None:
    """Keep the newest name; a push that does not know the name takes none away."""
    sql.execute(
        "INSERT INTO tenants (app_id, account_id, tenant_id, name, name_revision) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (app_id, account_id, tenant_id) DO UPDATE "
        "SET name = coalesce(excluded.name, name), name_revision = excluded.name_revision "
        "WHERE excluded.name_revision > name_revision",
        (app_id, change.account_id, change.tenant.id, change.tenant.name, change.revision),
    )


def _grant_row(row: sqlite3.Row) -> GrantRow:
    return GrantRow(
        app_id=row["app_id"],
        account_id=row["account_id"],
        tenant_id=row["tenant_id"],
        tenant_name=row["tenant_name"],
        permission_set_id=row["permission_set_id"],
        status=row["status"],
        usable=bool(row["usable_now"]),
        reason=row["reason"],
        missing=tuple(json.loads(row["missing"])),
        revision=row["revision"],
        epoch=row["epoch"],
        changed_at=row["changed_at"],
    )
