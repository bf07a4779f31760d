-- Questions expire: found by their date, whoever's thread they are in.

ALTER TABLE runs ADD COLUMN expires_at INTEGER;  -- Unix milliseconds; only of a waiting run

CREATE INDEX runs_due ON runs (expires_at) WHERE status = 'waiting' AND expires_at IS NOT NULL;
