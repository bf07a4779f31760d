-- The first schema: owners, threads and their logs, the rows beside them, the words for the search.
-- `key` is a small integer that stands for a thread or an owner inside this file; ids are what the world sees.

CREATE TABLE process (
    -- One row: counts the openings for writing, so that a fence is greater than all of every process before.
    boot INTEGER NOT NULL
);
INSERT INTO process (boot) VALUES (0);

CREATE TABLE owners (
    key INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    UNIQUE (tenant, user)
);

CREATE TABLE threads (
    key INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: a late read of a deleted thread must not find another
    id TEXT NOT NULL UNIQUE,
    owner INTEGER NOT NULL REFERENCES owners (key),
    kind TEXT NOT NULL,
    epoch TEXT NOT NULL,
    title TEXT NOT NULL,
    agent TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    head_run TEXT,
    status TEXT,
    newest INTEGER NOT NULL DEFAULT 0,      -- first_seq of its newest run
    pinned INTEGER NOT NULL DEFAULT 0,
    head INTEGER NOT NULL DEFAULT 0,        -- right when the thread has no row in the journal; else the journal says it
    journal_from INTEGER                    -- its first row in the journal that is not sealed; NULL: none
);
CREATE INDEX threads_of_owner ON threads (owner, pinned, updated_at, id) WHERE kind = 'chat';
CREATE UNIQUE INDEX inbox_of_owner ON threads (owner) WHERE kind = 'inbox';

CREATE TABLE tombstones (
    id TEXT PRIMARY KEY,
    deleted_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE journal (
    -- The log's newest part, in the order written, all threads mixed: one row is one write's events, a line of JSON each.
    -- Append only and without an index: the row's place in memory is enough to find it, and a new row dirties one page.
    -- A row before its thread's `journal_from` is sealed; it goes when all rows before it are sealed too.
    row INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    events BLOB NOT NULL
);

CREATE TABLE segments (
    -- The log's sealed part: what was in the journal when nothing ran in the thread, in larger pieces, deflated (RFC 1950).
    thread INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    events BLOB NOT NULL
);
CREATE UNIQUE INDEX segments_of_thread ON segments (thread, first_seq);

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    thread INTEGER NOT NULL,
    status TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    data BLOB NOT NULL                      -- JSON of the whole run
);
CREATE INDEX runs_of_thread ON runs (thread, first_seq);
CREATE INDEX runs_open ON runs (status, thread) WHERE status IN ('queued', 'running', 'waiting');

CREATE TABLE agent_states (
    run TEXT PRIMARY KEY,
    thread INTEGER NOT NULL,
    adapter TEXT NOT NULL,
    version INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX agent_states_of_thread ON agent_states (thread);

CREATE TABLE snapshots (
    thread INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    schema INTEGER NOT NULL,
    data BLOB NOT NULL
);

CREATE TABLE receipts (
    owner INTEGER NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    result BLOB NOT NULL,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;

CREATE TABLE aliases (
    owner INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    thread INTEGER NOT NULL,
    PRIMARY KEY (owner, external_id)
) WITHOUT ROWID;
CREATE INDEX aliases_of_thread ON aliases (thread);

CREATE TABLE said (
    -- What the search finds: a thread's title and what was said in it. `owner` is a word of the index too, so that a
    -- search reads only the owner's part of it.
    id INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    is_title INTEGER NOT NULL,
    owner TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX said_in_thread ON said (thread, is_title);
CREATE VIRTUAL TABLE said_words USING fts5 (
    owner, text, content = 'said', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);
