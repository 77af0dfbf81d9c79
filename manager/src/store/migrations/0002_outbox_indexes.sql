-- Ending a target takes its mail out of the outbox: with ten thousand targets that end at once, each look has
-- to be quick, however many orders were ever sent.
CREATE INDEX recipients_of_agent ON recipients (agent);
