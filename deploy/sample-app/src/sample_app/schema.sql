-- What the app keeps. An app of its own would have one app_id; this stand-in can play several at once.

-- The subscription of each app, and the secrets that may sign its pushes, newest last.
CREATE TABLE IF NOT EXISTS secrets (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id          TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    secret          TEXT NOT NULL
);

-- Every arrival, also of what was refused. Bodies are kept only of what was verified.
CREATE TABLE IF NOT EXISTS arrivals (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,
    app_id      TEXT,
    webhook_id  TEXT NOT NULL,
    type        TEXT,
    verdict     TEXT NOT NULL,
    body        TEXT
);

-- The idempotency key: one row for each push that was ever accepted.
CREATE TABLE IF NOT EXISTS accepted (
    app_id      TEXT NOT NULL,
    webhook_id  TEXT NOT NULL,
    received_at TEXT NOT NULL,
    PRIMARY KEY (app_id, webhook_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS tenants (
    app_id           TEXT NOT NULL,
    account_id       TEXT NOT NULL,
    tenant_id        TEXT NOT NULL,
    name             TEXT,
    name_revision    INTEGER NOT NULL DEFAULT 0,
    removed_revision INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app_id, account_id, tenant_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS grants (
    app_id            TEXT NOT NULL,
    account_id        TEXT NOT NULL,
    tenant_id         TEXT NOT NULL,
    permission_set_id TEXT NOT NULL,
    status            TEXT NOT NULL,
    usable            INTEGER NOT NULL,
    reason            TEXT,
    missing           TEXT NOT NULL,
    revision          INTEGER NOT NULL,
    epoch             INTEGER,
    changed_at        TEXT NOT NULL,
    PRIMARY KEY (app_id, account_id, tenant_id, permission_set_id)
) WITHOUT ROWID;

-- For an app that may use one tenant only: how far its moves have got, per account.
CREATE TABLE IF NOT EXISTS slots (
    app_id     TEXT NOT NULL,
    account_id TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    PRIMARY KEY (app_id, account_id)
) WITHOUT ROWID;
