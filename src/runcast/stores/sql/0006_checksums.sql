-- What a segment has by its compression, for the part that is not sealed yet: a flipped byte is noticed.

ALTER TABLE journal ADD COLUMN checksum INTEGER;  -- CRC-32 of `events` (RFC 1952, section 8); NULL: written before there was one
