-- Campaigns in waves, with gates, consent and times; what the registry knows of sites.
ALTER TABLE campaigns ADD COLUMN rollout BLOB;                      -- manager_core::Rollout, CBOR; NULL: all at once
ALTER TABLE campaigns ADD COLUMN test BLOB;                         -- what the bundle's test says, CBOR; NULL: it has none
ALTER TABLE campaigns ADD COLUMN notes TEXT NOT NULL DEFAULT '';    -- release notes
ALTER TABLE campaigns ADD COLUMN vendor TEXT NOT NULL DEFAULT '';   -- whom to tell if it halts; '' if nobody

ALTER TABLE agents ADD COLUMN vendor TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN tags TEXT NOT NULL DEFAULT '';        -- one a line
ALTER TABLE agents ADD COLUMN attributes TEXT NOT NULL DEFAULT '';  -- name=value, one a line
ALTER TABLE agents ADD COLUMN zone TEXT NOT NULL DEFAULT '';        -- of the IANA database; '': UTC
ALTER TABLE agents ADD COLUMN windows TEXT NOT NULL DEFAULT '';     -- '': at any time
ALTER TABLE agents ADD COLUMN consent TEXT NOT NULL DEFAULT 'ask' CHECK (consent IN ('ask', 'always', 'never'));
ALTER TABLE agents ADD COLUMN language TEXT NOT NULL DEFAULT 'en';  -- of mails to its administrator
-- Ends in a row that were no success; mails wait until then (NULL: they do not).
ALTER TABLE agents ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN penalty_until INTEGER;
CREATE INDEX agents_by_admin ON agents (admin COLLATE NOCASE) WHERE admin <> '';
CREATE INDEX faults_grave ON faults (agent, reported_at) WHERE fault_class IN ('A', 'B');

-- Letters to people go out as alerts do; some have their text as HTML beside it.
ALTER TABLE alerts ADD COLUMN html TEXT;                            -- NULL: plain text only

-- Questions to administrators (N8). A reply is known by its token, of which only the digest is kept.
CREATE TABLE consents (
    token       BLOB PRIMARY KEY NOT NULL,      -- SHA-256
    campaign    INTEGER NOT NULL REFERENCES campaigns (id),
    bundle      BLOB NOT NULL,                  -- digest of the bundle that was asked about
    admin       TEXT NOT NULL,
    zone        TEXT NOT NULL,                  -- in which dates of the answer are read
    asked_at    INTEGER NOT NULL,
    until       INTEGER NOT NULL,
    answer      TEXT NOT NULL DEFAULT '',       -- the last that was understood; '' if none
    answered_at INTEGER,                        -- NULL: no answer was understood
    explained   INTEGER NOT NULL DEFAULT 0      -- 1: was told what an answer looks like
) STRICT;

-- Who was told that a campaign's updates are done (N5).
CREATE TABLE told (
    campaign INTEGER NOT NULL REFERENCES campaigns (id),
    admin    TEXT NOT NULL,
    PRIMARY KEY (campaign, admin)
) STRICT, WITHOUT ROWID;

-- Who did what, when: append only, each row sealed into the next.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY NOT NULL,        -- 1, 2, 3 …
    at     INTEGER NOT NULL,
    who    TEXT NOT NULL,
    what   TEXT NOT NULL,
    digest BLOB NOT NULL                        -- SHA-256 over the row before it and this one (manager_core::audit)
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is append only'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is append only'); END;
