-- Firmware of devices in campaigns (PROTOCOL 18).
CREATE TABLE device_terms (
    campaign INTEGER PRIMARY KEY NOT NULL REFERENCES campaigns (id),
    terms    BLOB NOT NULL                     -- manager_core::updates::DeviceTerms, CBOR
) STRICT;

CREATE TABLE device_choices (
    campaign INTEGER NOT NULL REFERENCES campaigns (id),
    agent    TEXT NOT NULL REFERENCES agents (id),
    device   TEXT NOT NULL,
    choice   BLOB NOT NULL,                    -- shared::message::DeviceChoice, CBOR
    PRIMARY KEY (campaign, agent, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_plans (
    campaign     INTEGER NOT NULL REFERENCES campaigns (id),
    agent        TEXT NOT NULL REFERENCES agents (id),
    plan         BLOB,                         -- shared::message::DevicePlan, CBOR; NULL: none was made yet
    envelope     BLOB,                         -- the order that brought it; NULL: none was made yet
    due_at       INTEGER,                      -- when it is made, or mailed again; NULL: not by itself
    mailed       INTEGER NOT NULL DEFAULT 0,   -- how often, since it has changed
    answered     INTEGER NOT NULL DEFAULT 0,   -- 1: the agent has answered it
    heard_at     INTEGER,                      -- when a report of its devices' updates came last; NULL: never
    all_sequence INTEGER NOT NULL DEFAULT 0,   -- of the newest report of all of them
    PRIMARY KEY (campaign, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_plans_due ON device_plans (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE device_updates (
    campaign INTEGER NOT NULL REFERENCES campaigns (id),
    agent    TEXT NOT NULL REFERENCES agents (id),
    device   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    state    TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    heard_at INTEGER NOT NULL,
    detail   BLOB NOT NULL,                    -- shared::message::DeviceUpdate, CBOR
    PRIMARY KEY (campaign, agent, device, kind)
) STRICT, WITHOUT ROWID;
