-- Times are Unix milliseconds. Columns that may be NULL say what NULL means.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('order_sequence', 0);

CREATE TABLE agents (
    id              TEXT PRIMARY KEY NOT NULL,
    mail            TEXT NOT NULL,
    classes         TEXT NOT NULL,              -- one a line
    site            TEXT NOT NULL,
    note            TEXT NOT NULL,
    admin           TEXT NOT NULL,              -- '' if there is none
    state           TEXT NOT NULL CHECK (state IN ('invited', 'enrolled', 'removed')),
    added_at        INTEGER NOT NULL,
    secret_digest   BLOB NOT NULL,              -- SHA-256 of the invitation's secret
    invite_expires  INTEGER NOT NULL,
    sign_key        BLOB,                       -- NULL until enrolled
    key_id          BLOB UNIQUE,                -- NULL until enrolled
    seal_key        BLOB,                       -- NULL until enrolled
    agent_version   TEXT NOT NULL DEFAULT '',
    enrolled_at     INTEGER,                    -- NULL until enrolled
    enrolled_with   BLOB,                       -- digest of the secret that was used; NULL until enrolled
    last_report_at  INTEGER,                    -- NULL until the first report
    versions        BLOB,                       -- newest version report, CBOR; NULL until the first
    versions_seq    INTEGER NOT NULL DEFAULT 0, -- sequence number of that report
    versions_at     INTEGER                     -- when that report came
) STRICT;

CREATE TABLE bundles (
    digest           BLOB PRIMARY KEY NOT NULL,
    file             TEXT NOT NULL,             -- name in the home's folder bundles
    bytes            INTEGER NOT NULL,
    software_version TEXT NOT NULL,
    added_at         INTEGER NOT NULL
) STRICT;

-- A sealed body and its key: made once, mailed under many headers (PROTOCOL 4.2).
CREATE TABLE bodies (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    content_key BLOB NOT NULL,
    bytes       INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    content     BLOB,                           -- NULL if it is in a file
    file        TEXT                            -- name in the home's folder bodies; NULL if it is here
) STRICT;

CREATE TABLE campaigns (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT NOT NULL,
    bundle           BLOB NOT NULL REFERENCES bundles (digest),
    body             INTEGER REFERENCES bodies (id),  -- NULL until the first order
    software_version TEXT NOT NULL,
    from_versions    TEXT NOT NULL,             -- one a line
    classes          TEXT NOT NULL,             -- one a line
    settle_ms        INTEGER NOT NULL,
    reply_timeout_ms INTEGER NOT NULL,
    retries          INTEGER NOT NULL,
    order_life_ms    INTEGER NOT NULL,
    state            TEXT NOT NULL,
    created          INTEGER NOT NULL
) STRICT;

CREATE TABLE targets (
    campaign INTEGER NOT NULL REFERENCES campaigns (id),
    agent    TEXT NOT NULL REFERENCES agents (id),
    state    TEXT NOT NULL,                     -- the same as in detail, for counting
    detail   BLOB NOT NULL,                     -- manager_core::Target, CBOR
    PRIMARY KEY (campaign, agent)
) STRICT;
CREATE INDEX targets_of_agent ON targets (agent);

CREATE TABLE outbox (
    envelope BLOB PRIMARY KEY NOT NULL,
    sequence INTEGER NOT NULL UNIQUE,
    body     INTEGER NOT NULL REFERENCES bodies (id),
    kind     TEXT NOT NULL,
    campaign INTEGER REFERENCES campaigns (id), -- NULL if it belongs to none
    created  INTEGER NOT NULL,
    expires  INTEGER NOT NULL
) STRICT;

CREATE TABLE recipients (
    envelope BLOB NOT NULL REFERENCES outbox (envelope),
    agent    TEXT NOT NULL REFERENCES agents (id),
    state    TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'refused', 'dropped')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try INTEGER NOT NULL,
    answer   TEXT NOT NULL DEFAULT '',          -- what the mail server said last
    PRIMARY KEY (envelope, agent)
) STRICT;
CREATE INDEX recipients_due ON recipients (next_try) WHERE state = 'queued';

-- Every report as it came (PROTOCOL 8.1).
CREATE TABLE reports (
    agent       TEXT NOT NULL REFERENCES agents (id),
    envelope    BLOB NOT NULL,
    sequence    INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    answers     BLOB,                           -- the order that it answers; NULL if none
    message     BLOB NOT NULL,
    PRIMARY KEY (agent, envelope)
) STRICT;
CREATE INDEX reports_by_order ON reports (answers) WHERE answers IS NOT NULL;

-- What an operator should be able to read later.
CREATE TABLE events (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    at    INTEGER NOT NULL,
    agent TEXT NOT NULL,                        -- '' if it is about none
    text  TEXT NOT NULL
) STRICT;
