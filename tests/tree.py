"""How a thread's tree stands, by its rows and by the fold of its log: for the tests of branching and steering."""

from __future__ import annotations

from typing import Any

from core import ME, log, new_id
from runcast.commands import Edit, Retry, Steer
from runcast.runs import Message
from runcast.service import Service
from runcast.transcript import Transcript, fold, load


def edit(run: str, text: str, **fields: Any) -> Edit:
    key = fields.pop("id", None) or new_id()
    return Edit(id=key, run=run, message=Message(id=fields.pop("message", None) or new_id(), content=text), **fields)


def retry(run: str, **fields: Any) -> Retry:
    return Retry(id=fields.pop("id", None) or new_id(), run=run, **fields)


def steer(run: str, text: str, **fields: Any) -> Steer:
    key = fields.pop("id", None) or new_id()
    return Steer(id=key, run=run, message=Message(id=fields.pop("message", None) or new_id(), content=text))


async def tree(service: Service, thread: str) -> Transcript:
    """The thread's transcript, after what the rows say was compared with it: parents, statuses and the head run."""
    while True:
        transcript = fold(Transcript(), await log(service, thread))
        rows = [await service.get_run(ME, run.id) for run in transcript.runs]
        view = await service.view(ME, thread)
        row = await service.get_thread(ME, thread)
        if view.seq == row.head == transcript.seq:
            break  # else a run went on between two of the questions
    for run, of_run in zip(transcript.runs, rows, strict=True):
        assert (of_run.parent, of_run.resumes, of_run.replaces) == (run.parent, run.resumes, run.replaces), run.id
        assert of_run.status == run.status, run.id
    assert load(view.transcript) == transcript  # I14
    assert row.head_run == transcript.head_run
    return transcript


async def said_to(service: Service, thread: str) -> list[tuple[str, str | None]]:
    """What each run was asked, and what the run before it on its path was asked; in the order of their first events."""
    transcript = await tree(service, thread)
    asked = {run.id: _asked(run) for run in transcript.runs}
    return [(asked[run.id], asked.get(run.parent or "")) for run in transcript.runs]


def _asked(run: Any) -> str:
    texts = [part.text for message in run.messages if message.role == "user" for part in message.parts]
    return " ".join(texts)
