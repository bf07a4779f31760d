-- Files that people send, and blobs: the whole of what is too big for the log. Their bytes are beside the database.

CREATE TABLE files (
    id TEXT PRIMARY KEY,
    owner INTEGER NOT NULL REFERENCES owners (key),
    name TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,                   -- where the content is: several rows may have the same
    created_at INTEGER NOT NULL,
    bound INTEGER NOT NULL DEFAULT 0        -- 1 once a thread holds it
) WITHOUT ROWID;
CREATE INDEX files_with_content ON files (sha256);
CREATE INDEX files_of_owner ON files (owner);
CREATE INDEX files_unbound ON files (created_at) WHERE bound = 0;

CREATE TABLE file_threads (
    -- Which threads hold a file: it goes with the last of them.
    thread INTEGER NOT NULL,
    file TEXT NOT NULL,
    PRIMARY KEY (thread, file)
) WITHOUT ROWID;
CREATE INDEX threads_of_file ON file_threads (file);

CREATE TABLE dropped_contents (
    -- Contents that a row has let go of: to be removed from the disk after the commit, unless another row has them.
    sha256 TEXT PRIMARY KEY
) WITHOUT ROWID;

-- Triggers, so that whatever deletes a thread or an owner deletes the files too, and nothing is forgotten on the disk.
CREATE TRIGGER content_is_dropped AFTER DELETE ON files BEGIN
    INSERT OR IGNORE INTO dropped_contents (sha256) VALUES (old.sha256);
END;

CREATE TRIGGER files_go_with_their_thread AFTER DELETE ON threads BEGIN
    DELETE FROM files
    WHERE id IN (SELECT file FROM file_threads WHERE thread = old.key)
      AND NOT EXISTS (SELECT 1 FROM file_threads other WHERE other.file = files.id AND other.thread <> old.key);
    DELETE FROM file_threads WHERE thread = old.key;
END;

CREATE TRIGGER files_go_with_their_owner AFTER DELETE ON owners BEGIN
    DELETE FROM file_threads WHERE file IN (SELECT id FROM files WHERE owner = old.key);
    DELETE FROM files WHERE owner = old.key;
END;
