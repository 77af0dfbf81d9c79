-- An agent's second address, for mails that its first does not take.
ALTER TABLE agents ADD COLUMN fallback_mail TEXT NOT NULL DEFAULT '';       -- '' if there is none
ALTER TABLE recipients ADD COLUMN second INTEGER NOT NULL DEFAULT 0;        -- 1: the mail goes to the second address
