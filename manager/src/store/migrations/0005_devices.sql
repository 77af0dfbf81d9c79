-- Devices behind agents (PROTOCOL 14): faults, signed readings, what is owed to the agents for them, and alerts.
-- Numbers of 64 bits without a sign (chain, number) stand as the signed number of the same bits.

CREATE TABLE faults (
    agent           TEXT NOT NULL REFERENCES agents (id),
    device          TEXT NOT NULL,
    key             TEXT NOT NULL,
    raised_at       INTEGER NOT NULL,
    class           TEXT NOT NULL,
    model           TEXT NOT NULL,
    serial          TEXT NOT NULL,
    code            TEXT NOT NULL,
    kind            TEXT NOT NULL,
    fault_class     TEXT NOT NULL,
    severity        TEXT NOT NULL,
    location        TEXT NOT NULL,
    text            TEXT NOT NULL,
    returns         INTEGER NOT NULL,
    cleared_at      INTEGER,                    -- NULL: it has not ended
    number          INTEGER NOT NULL,
    sequence        INTEGER NOT NULL,
    reported_at     INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL,
    acknowledged_at INTEGER,                    -- NULL: not yet
    PRIMARY KEY (agent, device, key, raised_at)
) STRICT;
CREATE INDEX faults_unacknowledged ON faults (agent, number) WHERE acknowledged_at IS NULL;
CREATE INDEX faults_open ON faults (agent, device) WHERE cleared_at IS NULL;

CREATE TABLE owed_numbers (
    agent  TEXT NOT NULL REFERENCES agents (id),
    number INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    PRIMARY KEY (agent, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE watches (
    agent           TEXT PRIMARY KEY NOT NULL REFERENCES agents (id),
    faults_dropped  INTEGER NOT NULL DEFAULT 0,
    refused         INTEGER NOT NULL DEFAULT 0,
    broken          INTEGER NOT NULL DEFAULT 0,
    counters_seq    INTEGER NOT NULL DEFAULT 0,
    counters_more   INTEGER NOT NULL DEFAULT 0,
    counters_at     INTEGER,                    -- NULL until the first counter report
    acknowledged_at INTEGER,                    -- NULL until the first acknowledgement
    owed_chain      INTEGER,                    -- NULL: no readings are to be acknowledged
    owed_index      INTEGER,
    owed_at         INTEGER
) STRICT;

CREATE TABLE reading_keys (
    agent    TEXT NOT NULL REFERENCES agents (id),
    key_id   BLOB NOT NULL,
    sign_key BLOB NOT NULL,
    PRIMARY KEY (agent, key_id)
) STRICT, WITHOUT ROWID;
INSERT INTO reading_keys SELECT id, key_id, sign_key FROM agents WHERE sign_key IS NOT NULL;
-- Whatever gives an agent a key: readings that it has signed can still be proved when it has another one.
CREATE TRIGGER agents_keys_of_readings AFTER UPDATE OF sign_key ON agents WHEN NEW.sign_key IS NOT NULL
BEGIN
    INSERT OR IGNORE INTO reading_keys (agent, key_id, sign_key) VALUES (NEW.id, NEW.key_id, NEW.sign_key);
END;

CREATE TABLE chains (
    agent    TEXT NOT NULL REFERENCES agents (id),
    chain    INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    begun_at INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    PRIMARY KEY (agent, chain)
) STRICT, WITHOUT ROWID;

CREATE TABLE readings (
    agent       TEXT NOT NULL REFERENCES agents (id),
    chain       INTEGER NOT NULL,
    idx         INTEGER NOT NULL,
    device      TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    previous    BLOB NOT NULL,
    digest      BLOB NOT NULL,
    envelope    BLOB NOT NULL,
    nth         INTEGER NOT NULL,
    PRIMARY KEY (agent, chain, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX readings_by_time ON readings (received_at);
CREATE INDEX readings_by_report ON readings (agent, envelope);

CREATE TABLE refused_readings (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    agent       TEXT NOT NULL REFERENCES agents (id),
    digest      BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    content     BLOB NOT NULL,
    signature   BLOB NOT NULL,
    UNIQUE (agent, digest)
) STRICT;

CREATE TABLE devices (
    agent       TEXT NOT NULL REFERENCES agents (id),
    device      TEXT NOT NULL,
    class       TEXT NOT NULL,
    model       TEXT NOT NULL,
    serial      TEXT NOT NULL,
    heard_at    INTEGER NOT NULL,
    chain       INTEGER,                        -- NULL until the first reading
    idx         INTEGER,
    seen        BLOB,
    PRIMARY KEY (agent, device)
) STRICT;

CREATE TABLE supply_levels (
    agent    TEXT NOT NULL REFERENCES agents (id),
    device   TEXT NOT NULL,
    key      TEXT NOT NULL,
    day      INTEGER NOT NULL,
    taken_at INTEGER NOT NULL,
    level    INTEGER NOT NULL,
    PRIMARY KEY (agent, device, key, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX supply_levels_by_day ON supply_levels (day);

CREATE TABLE alerts (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    envelope  BLOB NOT NULL UNIQUE,
    addressee TEXT NOT NULL,
    subject   TEXT NOT NULL,
    text      TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'failed')),
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    attempts  INTEGER NOT NULL DEFAULT 0,
    next_try  INTEGER NOT NULL,
    answer    TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX alerts_due ON alerts (next_try) WHERE state = 'queued';

CREATE TABLE alerted (
    addressee TEXT NOT NULL,
    agent     TEXT NOT NULL,
    device    TEXT NOT NULL,
    key       TEXT NOT NULL,
    raised_at INTEGER NOT NULL,
    change    TEXT NOT NULL CHECK (change IN ('raised', 'cleared')),
    alert     INTEGER REFERENCES alerts (id),   -- NULL: it is not in an alert yet
    PRIMARY KEY (addressee, agent, device, key, raised_at, change),
    FOREIGN KEY (agent, device, key, raised_at) REFERENCES faults (agent, device, key, raised_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX alerted_waiting ON alerted (addressee) WHERE alert IS NULL;
CREATE INDEX alerted_of_fault ON alerted (agent, device, key, raised_at);
CREATE INDEX alerted_in ON alerted (alert);
