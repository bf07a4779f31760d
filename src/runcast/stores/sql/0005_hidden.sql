-- Hidden threads are few and short-lived; what a crash left of them is found without looking at all others.

CREATE INDEX threads_hidden ON threads (updated_at) WHERE kind = 'hidden';
