-- An agent's own keys change (PROTOCOL 13).
ALTER TABLE agents ADD COLUMN keys_at INTEGER;          -- when its keys came; NULL: with its enrolment
ALTER TABLE agents ADD COLUMN rekey_ordered INTEGER;    -- when new ones were asked for last; NULL: all is answered
CREATE INDEX agents_by_seal_key ON agents (seal_key);

-- Keys that were replaced: reports that they have signed may still be on their way.
CREATE TABLE former_keys (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,         -- the newer, the higher
    agent    TEXT NOT NULL REFERENCES agents (id),
    key_id   BLOB NOT NULL UNIQUE,
    sign_key BLOB NOT NULL,
    below    INTEGER,                                   -- NULL until a report under newer keys came
    until    INTEGER                                    -- NULL until then
) STRICT;
CREATE INDEX former_keys_of_agent ON former_keys (agent);
