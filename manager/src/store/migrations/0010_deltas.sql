-- Deltas of bundles, for agents that have an older one (PROTOCOL 6.9).
CREATE TABLE deltas (
    bundle BLOB NOT NULL REFERENCES bundles (digest),
    number INTEGER NOT NULL,                   -- its place in the manifest, from 0
    bytes  INTEGER NOT NULL,                   -- what is mailed of the bundle
    base   BLOB NOT NULL,                      -- the modules that an agent has to have, CBOR
    PRIMARY KEY (bundle, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE delta_bodies (
    campaign INTEGER NOT NULL REFERENCES campaigns (id),
    number   INTEGER NOT NULL,                 -- of the delta
    body     INTEGER NOT NULL REFERENCES bodies (id),
    PRIMARY KEY (campaign, number)
) STRICT, WITHOUT ROWID;
