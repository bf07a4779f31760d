-- The statements of the SQLite store. `runcast.stores.sql` says how this file is read.

-- name: next_boot
-- Count this opening of the file for writing.
UPDATE process SET boot = boot + 1 RETURNING boot;

-- name: journal_span
-- The oldest and the newest row of the journal.
SELECT min(row), max(row) FROM journal;

-- name: journal_places
-- Where each unsealed row of the journal belongs, in order: read once at the opening.
SELECT j.row, j.thread, j.last_seq FROM journal j CROSS JOIN threads t ON t.key = j.thread AND j.row >= t.journal_from
ORDER BY j.row;

-- name: journal_heads
-- The head of each thread that has unsealed rows in the journal: for a process that only reads.
SELECT j.thread, max(j.last_seq) FROM journal j CROSS JOIN threads t ON t.key = j.thread AND j.row >= t.journal_from
GROUP BY j.thread;

-- name: trim_journal
-- Remove the oldest rows, all of them sealed.
DELETE FROM journal WHERE row < ?;

-- name: owner_key
-- The owner's key.
SELECT key FROM owners WHERE tenant = ? AND user = ?;

-- name: insert_owner
-- A new owner; gives the key.
INSERT INTO owners (tenant, user) VALUES (?, ?) RETURNING key;

-- name: thread
-- One thread's row with its owner, by id.
SELECT t.id, o.tenant, o.user, t.kind, t.epoch, t.title, t.agent, t.created_at, t.updated_at, t.head, t.head_run,
       t.status, t.pinned, t.first_seq, t.key
FROM threads t JOIN owners o ON o.key = t.owner
WHERE t.id = ?;

-- name: heads
-- Of these threads those that are there: the key, and the head as the row has it.
SELECT id, key, head FROM threads WHERE id IN (SELECT value FROM json_each(?));

-- name: thread_by_key
-- One thread's row with its owner, by key.
SELECT t.id, o.tenant, o.user, t.kind, t.epoch, t.title, t.agent, t.created_at, t.updated_at, t.head, t.head_run,
       t.status, t.pinned, t.first_seq, t.key
FROM threads t JOIN owners o ON o.key = t.owner
WHERE t.key = ?;

-- name: inbox
-- The owner's inbox.
SELECT t.id, o.tenant, o.user, t.kind, t.epoch, t.title, t.agent, t.created_at, t.updated_at, t.head, t.head_run,
       t.status, t.pinned, t.first_seq, t.key
FROM threads t JOIN owners o ON o.key = t.owner
WHERE t.owner = ? AND t.kind = 'inbox';

-- name: log
-- What the writer keeps in memory of a thread, by id.
SELECT key, id, owner, head, newest, journal_from FROM threads WHERE id = ?;

-- name: log_by_key
-- What the writer keeps in memory of a thread, by key.
SELECT key, id, owner, head, newest, journal_from FROM threads WHERE key = ?;

-- name: inbox_log
-- What the writer keeps in memory of the owner's inbox.
SELECT key, id, owner, head, newest, journal_from FROM threads WHERE owner = ? AND kind = 'inbox';

-- name: place
-- What a reader needs to read a log: key, and where the thread's rows in the journal begin.
SELECT key, journal_from FROM threads WHERE id = ?;

-- name: insert_thread
-- A new thread with an empty log.
INSERT INTO threads (id, owner, kind, epoch, title, agent, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: update_thread
-- What a write changes of a thread's row; NULL leaves a value as it is.
UPDATE threads SET
    head = :head, journal_from = :journal_from, newest = :newest,
    title = coalesce(:title, title), pinned = coalesce(:pinned, pinned), head_run = coalesce(:head_run, head_run),
    status = coalesce(:status, status), updated_at = coalesce(:updated_at, updated_at)
WHERE key = :key;

-- name: place_in_journal
-- Where the thread's part of the journal begins, and its head.
UPDATE threads SET head = ?, journal_from = ? WHERE key = ?;

-- name: tombstone
-- Whether the id was a deleted thread's.
SELECT 1 FROM tombstones WHERE id = ?;

-- name: insert_tombstone
-- The id is never used again.
INSERT INTO tombstones (id, deleted_at) VALUES (?, ?);

-- name: journal_rows
-- Rows of the journal by number, in that order; the argument is a JSON list.
SELECT j.first_seq, j.events FROM json_each(?) r CROSS JOIN journal j ON j.row = r.value WHERE j.thread = ?;

-- name: journal_rows_to_seal
-- The same with their checksums.
SELECT j.first_seq, j.events, j.checksum FROM json_each(?) r CROSS JOIN journal j ON j.row = r.value WHERE j.thread = ?;

-- name: journal_scan
-- The thread's rows of the journal from a row on: for a process that only reads.
SELECT first_seq, events FROM journal WHERE row >= ? AND thread = ? AND last_seq > ? ORDER BY row;

-- name: delete_journal_rows
-- Remove rows from the journal; the argument is a JSON list.
DELETE FROM journal WHERE row IN (SELECT value FROM json_each(?));

-- name: segments
-- The thread's segments from the one that holds a seq on.
SELECT first_seq, events FROM segments
WHERE thread = :thread AND last_seq >= :seq AND first_seq >= coalesce(
    (SELECT max(first_seq) FROM segments WHERE thread = :thread AND first_seq <= :seq), 0)
ORDER BY first_seq;

-- name: insert_segment
-- A sealed piece of a log.
INSERT INTO segments (thread, first_seq, last_seq, events) VALUES (?, ?, ?, ?);

-- name: put_run
-- A run's row, new or replaced; nothing happens if the id is another thread's.
INSERT INTO runs (id, thread, status, first_seq, data, expires_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, first_seq = excluded.first_seq, data = excluded.data, expires_at = excluded.expires_at
WHERE thread = excluded.thread;

-- name: expired_runs
-- Waiting runs that nobody answered in time, the longest overdue first.
SELECT data FROM runs WHERE status = 'waiting' AND expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at;

-- name: runs
-- Runs by thread, by status, by id: NULL asks for all; statuses and ids are JSON lists.
SELECT r.data FROM runs r
WHERE (:thread IS NULL OR r.thread = (SELECT key FROM threads WHERE id = :thread))
  AND (:status IS NULL OR r.status IN (SELECT value FROM json_each(:status)))
  AND (:ids IS NULL OR r.id IN (SELECT value FROM json_each(:ids)))
ORDER BY r.thread, r.first_seq;

-- name: runs_of_thread
-- All runs of a thread.
SELECT r.data FROM runs r
WHERE r.thread = (SELECT key FROM threads WHERE id = :thread)
  AND (:status IS NULL OR r.status IN (SELECT value FROM json_each(:status)))
ORDER BY r.first_seq;

-- name: runs_by_id
-- Runs by id; the argument is a JSON list.
SELECT r.data FROM json_each(:ids) i CROSS JOIN runs r ON r.id = i.value
WHERE (:thread IS NULL OR r.thread = (SELECT key FROM threads WHERE id = :thread))
  AND (:status IS NULL OR r.status IN (SELECT value FROM json_each(:status)))
ORDER BY r.thread, r.first_seq;

-- name: active_runs
-- The thread's runs that are not at an end: their events may still come.
SELECT id FROM runs WHERE thread = ? AND status IN ('queued', 'running');

-- name: active_runs_of_owner
-- The running and queued runs of all threads of an owner. The first condition is that of the index `runs_open`.
SELECT r.data FROM runs r JOIN threads t ON t.key = r.thread
WHERE r.status IN ('queued', 'running', 'waiting') AND r.status <> 'waiting'
  AND t.owner = (SELECT key FROM owners WHERE tenant = ? AND user = ?)
ORDER BY r.thread, r.first_seq;

-- name: threads_with_active_runs
-- Threads that somebody has to drive.
SELECT DISTINCT thread FROM runs WHERE status IN ('queued', 'running') ORDER BY thread;

-- name: active_run_rows
-- The running and queued runs of a thread, in the order accepted.
SELECT data FROM runs WHERE thread = ? AND status IN ('queued', 'running') ORDER BY first_seq;

-- name: put_agent_state
-- What a run adds to its framework's history.
INSERT INTO agent_states (run, thread, adapter, version, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run) DO UPDATE SET adapter = excluded.adapter, version = excluded.version, data = excluded.data
WHERE thread = excluded.thread;

-- name: agent_states
-- States by run, in the order asked; the argument is a JSON list.
SELECT s.run, s.adapter, s.version, s.data FROM json_each(?) i CROSS JOIN agent_states s ON s.run = i.value
ORDER BY i.key;

-- name: snapshot
-- The newest snapshot of a thread.
SELECT s.seq, s.schema, s.data FROM snapshots s JOIN threads t ON t.key = s.thread WHERE t.id = ?;

-- name: put_snapshot
-- Keep a snapshot unless there is a newer one.
INSERT INTO snapshots (thread, seq, schema, data) VALUES (?, ?, ?, ?)
ON CONFLICT (thread) DO UPDATE SET seq = excluded.seq, schema = excluded.schema, data = excluded.data
WHERE excluded.seq >= seq;

-- name: receipt
-- What a command did.
SELECT r.key, r.body_hash, r.result FROM receipts r JOIN owners o ON o.key = r.owner
WHERE o.tenant = ? AND o.user = ? AND r.key = ?;

-- name: receipt_hash
-- Which command has the key.
SELECT body_hash FROM receipts WHERE owner = ? AND key = ?;

-- name: insert_receipt
-- Remember what a command did.
INSERT INTO receipts (owner, key, body_hash, result, made_at) VALUES (?, ?, ?, ?, ?);

-- name: alias
-- The id of the thread that an external id names.
SELECT t.id FROM aliases a JOIN threads t ON t.key = a.thread WHERE a.owner = ? AND a.external_id = ?;

-- name: put_alias
-- From now on the external id names this thread.
INSERT OR REPLACE INTO aliases (owner, external_id, thread) VALUES (?, ?, ?);

-- name: insert_file
-- A file whose content has been written, not bound yet.
INSERT INTO files (id, owner, name, mime_type, size, sha256, created_at) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: files
-- Files by id with their owners, in the order asked; the argument is a JSON list.
SELECT f.id, o.tenant, o.user, f.name, f.mime_type, f.size, f.sha256, f.created_at
FROM json_each(?) i CROSS JOIN files f ON f.id = i.value JOIN owners o ON o.key = f.owner
ORDER BY i.key;

-- name: files_of_owner
-- All files of an owner, in the order put.
SELECT f.id, o.tenant, o.user, f.name, f.mime_type, f.size, f.sha256, f.created_at
FROM owners o JOIN files f ON f.owner = o.key WHERE o.tenant = ? AND o.user = ?
ORDER BY f.created_at, f.id;

-- name: pending_bytes
-- How much an owner has uploaded that no thread holds.
SELECT coalesce(sum(size), 0) FROM files WHERE owner = ? AND bound = 0;

-- name: bind_file
-- A thread holds the file from now on; nothing happens if it is not the owner's.
UPDATE files SET bound = 1 WHERE id = ? AND owner = ?;

-- name: put_file_thread
-- Which thread holds it.
INSERT OR IGNORE INTO file_threads (thread, file) VALUES (?, ?);

-- name: delete_unbound_files
-- Files from before a time that no message names.
DELETE FROM files WHERE bound = 0 AND created_at < ?;

-- name: unbind_files_of_owner
-- Before they are deleted.
DELETE FROM file_threads WHERE file IN (SELECT id FROM files WHERE owner = ?);

-- name: delete_files_of_owner
-- All of them.
DELETE FROM files WHERE owner = ?;

-- name: dropped_contents
-- Contents that a row has let go of.
SELECT sha256 FROM dropped_contents LIMIT ?;

-- name: contents_in_use
-- Which of these contents a row names; the argument is a JSON list.
SELECT DISTINCT f.sha256 FROM json_each(?) i CROSS JOIN files f ON f.sha256 = i.value;

-- name: forget_dropped
-- These are removed, or in use; the argument is a JSON list.
DELETE FROM dropped_contents WHERE sha256 IN (SELECT value FROM json_each(?));

-- name: insert_said
-- A title or a text that the search finds.
INSERT INTO said (thread, is_title, owner, text) VALUES (?, ?, ?, ?);

-- name: index_said
-- Its words.
INSERT INTO said_words (rowid, owner, text) VALUES (?, ?, ?);

-- name: unindex_title
-- Take the title's words out of the index.
INSERT INTO said_words (said_words, rowid, owner, text)
SELECT 'delete', id, owner, text FROM said WHERE thread = ? AND is_title = 1;

-- name: delete_title
-- Take the title out of the search.
DELETE FROM said WHERE thread = ? AND is_title = 1;

-- name: unindex_thread
-- Take all words of the thread out of the index.
INSERT INTO said_words (said_words, rowid, owner, text) SELECT 'delete', id, owner, text FROM said WHERE thread = ?;

-- name: delete_said
-- Of a deleted thread.
DELETE FROM said WHERE thread = ?;

-- name: delete_segments
-- Of a deleted thread.
DELETE FROM segments WHERE thread = ?;

-- name: delete_runs
-- Of a deleted thread.
DELETE FROM runs WHERE thread = ?;

-- name: delete_agent_states
-- Of a deleted thread.
DELETE FROM agent_states WHERE thread = ?;

-- name: delete_snapshot
-- Of a deleted thread.
DELETE FROM snapshots WHERE thread = ?;

-- name: delete_aliases
-- Of a deleted thread.
DELETE FROM aliases WHERE thread = ?;

-- name: delete_thread
-- The row itself.
DELETE FROM threads WHERE key = ?;

-- name: first_seq
-- The oldest seq of a log that is kept.
SELECT first_seq FROM threads WHERE key = ?;

-- name: idle_threads
-- Conversations in which nothing runs or waits, pinned ones left out, the longest unchanged first.
SELECT t.id, o.tenant, o.user, t.kind, t.epoch, t.title, t.agent, t.created_at, t.updated_at, t.head, t.head_run,
       t.status, t.pinned, t.first_seq, t.key
FROM threads t INDEXED BY threads_by_age JOIN owners o ON o.key = t.owner
WHERE t.kind = 'chat' AND t.pinned = 0 AND t.updated_at < :before
  AND t.id NOT IN (SELECT value FROM json_each(:but))
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.thread = t.key AND r.status IN ('queued', 'running', 'waiting'))
ORDER BY t.updated_at LIMIT :limit;

-- name: hidden_threads
-- Hidden threads, of all owners or of one, the longest unchanged first.
SELECT t.id, o.tenant, o.user, t.kind, t.epoch, t.title, t.agent, t.created_at, t.updated_at, t.head, t.head_run,
       t.status, t.pinned, t.first_seq, t.key
FROM threads t INDEXED BY threads_hidden JOIN owners o ON o.key = t.owner
WHERE t.kind = 'hidden' AND t.updated_at < :before AND (:user IS NULL OR (o.user = :user AND o.tenant = :tenant))
ORDER BY t.updated_at LIMIT :limit;

-- name: bytes_in_use
-- The size of the database without its free pages, and of the files beside it.
SELECT (p.page_count - f.freelist_count) * s.page_size + (SELECT coalesce(sum(size), 0) FROM files)
FROM pragma_page_count() p, pragma_freelist_count() f, pragma_page_size() s;

-- name: old_receipts
-- Which receipts were made before a time, the oldest ones.
SELECT owner, key FROM receipts WHERE made_at < ? ORDER BY made_at LIMIT ?;

-- name: delete_receipt
-- Forget what a command did.
DELETE FROM receipts WHERE owner = ? AND key = ?;

-- name: old_tombstones
-- Which threads were deleted before a time, the oldest ones.
SELECT id FROM tombstones WHERE deleted_at < ? ORDER BY deleted_at LIMIT ?;

-- name: delete_tombstone
-- Forget that there was a thread with this id.
DELETE FROM tombstones WHERE id = ?;

-- name: long_inbox
-- An inbox of which much more is kept than asked.
SELECT key, head, first_seq FROM threads WHERE kind = 'inbox' AND head - first_seq >= 2 * ? LIMIT 1;

-- name: inbox_cut
-- Where an inbox can be cut: the last seq of its newest segment that may go.
SELECT max(last_seq) FROM segments WHERE thread = ? AND last_seq <= ?;

-- name: cut_segments
-- Remove the old end of a log.
DELETE FROM segments WHERE thread = ? AND last_seq <= ?;

-- name: put_first_seq
-- From where on the log is kept.
UPDATE threads SET first_seq = ? WHERE key = ?;

-- name: merge_words
-- Merge the search's index by so many pages; a negative number begins to merge all of it (SQLite FTS5, 6.8).
INSERT INTO said_words (said_words, rank) VALUES ('merge', ?);

-- name: probe
-- A small write, to see whether one works.
UPDATE process SET probes = probes + 1;

-- name: has_conversations
-- Whether the owner has a conversation, also a hidden one.
SELECT 1 FROM (SELECT ? AS owner) o
WHERE EXISTS (SELECT 1 FROM threads t WHERE t.owner = o.owner AND t.kind = 'chat')
   OR EXISTS (SELECT 1 FROM threads t WHERE t.owner = o.owner AND t.kind = 'hidden');

-- name: delete_stray_rows
-- Remove what the journal still has of deleted threads.
DELETE FROM journal WHERE thread NOT IN (SELECT key FROM threads);

-- name: delete_receipts
-- Of an owner who goes.
DELETE FROM receipts WHERE owner = ?;

-- name: delete_aliases_of_owner
-- Of an owner who goes.
DELETE FROM aliases WHERE owner = ?;

-- name: delete_owner
-- The row itself.
DELETE FROM owners WHERE key = ?;
