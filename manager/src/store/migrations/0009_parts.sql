-- Bodies that go in parts (PROTOCOL 17), and how large a mail may be on the way to a domain.
ALTER TABLE recipients ADD COLUMN wanted BLOB;                              -- spans of the body that are still to be mailed; NULL: all of it
ALTER TABLE recipients ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;      -- times in a row that the relay did not take it
ALTER TABLE recipients ADD COLUMN mail_bytes INTEGER NOT NULL DEFAULT 0;    -- about the size of its mails
ALTER TABLE recipients ADD COLUMN asks INTEGER NOT NULL DEFAULT 0;          -- requests for parts in the day that began with asks_since
ALTER TABLE recipients ADD COLUMN asks_since INTEGER NOT NULL DEFAULT 0;

CREATE TABLE paths (
    domain     TEXT PRIMARY KEY NOT NULL,                                   -- '': the manager's own relay, and so all
    taken      INTEGER NOT NULL,
    mail_max   INTEGER,
    learned_at INTEGER
) STRICT, WITHOUT ROWID;
