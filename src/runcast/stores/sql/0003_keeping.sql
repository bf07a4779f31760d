-- What is kept, and for how long: logs that are cut at their old end, and the orders in which old things are found.

-- The oldest seq that is kept; more than 1 only in an inbox, whose oldest part goes.
ALTER TABLE threads ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 1;

-- How often it was tried whether a write works, after one had failed. (A row that does not change is not written.)
ALTER TABLE process ADD COLUMN probes INTEGER NOT NULL DEFAULT 0;

CREATE INDEX threads_by_age ON threads (updated_at) WHERE kind = 'chat' AND pinned = 0;
CREATE INDEX inboxes_by_length ON threads (head - first_seq) WHERE kind = 'inbox';
CREATE INDEX receipts_by_age ON receipts (made_at);
CREATE INDEX tombstones_by_age ON tombstones (deleted_at);
