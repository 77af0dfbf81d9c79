-- How each agent stands to its manager (PROTOCOL 11, 12), as it said last.
ALTER TABLE agents ADD COLUMN trust_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN unheard_since INTEGER;
ALTER TABLE agents ADD COLUMN standing_seq INTEGER NOT NULL DEFAULT 0;
