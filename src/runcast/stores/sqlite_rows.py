"""Rows of the SQLite file as the values they hold."""

from __future__ import annotations

from typing import Any

import msgspec

from runcast.runs import Run, Thread


def thread_of(row: Any) -> Thread:
    """A `Thread` from a row of the statements `thread`, `thread_by_key`, `inbox`; the head as the row has it."""
    (
        id,
        tenant,
        user,
        kind,
        epoch,
        title,
        agent,
        created_at,
        updated_at,
        head,
        head_run,
        status,
        pinned,
        first_seq,
        _,
    ) = row
    return Thread(
        id=id,
        tenant=tenant,
        user=user,
        kind=kind,
        epoch=epoch,
        title=title,
        agent=agent,
        created_at=created_at,
        updated_at=updated_at,
        head=head,
        head_run=head_run,
        status=status,
        pinned=bool(pinned),
        first_seq=first_seq,
    )


def run_of(row: Any) -> Run:
    return msgspec.json.decode(row[0], type=Run)
