-- Which of an agent's fault reports of one number is to be acknowledged: after a disk was put back, numbers are given out again.

CREATE TABLE owed_stamps (
    agent  TEXT NOT NULL REFERENCES agents (id),
    number INTEGER NOT NULL,
    stamp  BLOB NOT NULL,
    PRIMARY KEY (agent, number, stamp)
) STRICT, WITHOUT ROWID;
