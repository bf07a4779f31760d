"""What an agent can ask a person, and what it makes of the answer.

    city = await run.ask("Which city?")
    plan = await run.ask("Which plan?", options=["small", "large"])
    address = await run.ask("Where to?", schema=Address)          # an Address, checked
    city, plan = await run.ask_all([Question("Which city?"), Question("Which plan?", options=["small", "large"])])

A question becomes an AG-UI 1.0 `Interrupt`; the answer was checked against its `responseSchema` before it was accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import msgspec
from msgspec import UNSET

from runcast.errors import AgentError, Declined
from runcast.events import Interrupt
from runcast.forms import BadForm, Fault, check_form, inlined
from runcast.jsonvalue import to_json
from runcast.runs import AgentState, Answer

ASKED = "runcast.ask"
"""The adapter whose state a run keeps that waits for an answer to `run.ask`."""
VERSION = 1


class Asked(NamedTuple):
    """A question on its way to the log: its id and its date are not known yet."""

    interrupt: Interrupt
    args_hash: str | None
    expires_in_s: float | None
    check: Callable[[Any], Fault | None]
    """What else, beside its schema, an answer has to satisfy."""


@dataclass(frozen=True)
class Question:
    """One question. Without `options` and `schema` it is answered by any text.

    Args:
        text: what the person reads.
        options: the answer is one of these.
        schema: the answer's form: a JSON Schema (2020-12) gives JSON; a pydantic model, dataclass, `msgspec.Struct` or any
            other type gives an instance of it.
        expires_in: seconds until nobody's answer counts as a no; None: the server's `answer_timeout_s`.
    """

    text: str
    options: Sequence[str] | None = None
    schema: Any = None
    expires_in: float | None = None
    reason: Literal["input_required", "confirmation", "tool_call"] = "input_required"
    tool_call_id: str | None = None
    arguments: Mapping[str, Any] | None = None
    """Of an approval: exactly what is approved."""
    name: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def asked(self) -> Asked:
        """
        Raises:
            AgentError: code `invalid_question`, its form cannot be asked for.
        """
        form, check = self._form()
        interrupt = Interrupt(
            id="",
            reason=self.reason,
            message=self.text,
            tool_call_id=UNSET if self.tool_call_id is None else self.tool_call_id,
            response_schema=form,
            metadata=cast(dict[str, Any], to_json(dict(self.metadata))) if self.metadata else UNSET,
        )
        hashed = None if self.arguments is None else args_hash(self.arguments)
        return Asked(interrupt, hashed, self.expires_in, check)

    def value(self, answer: Answer) -> Any:
        """What the agent gets for the person's answer.

        Raises:
            Declined: the person withdrew from the question, or nobody answered in time.
        """
        if answer.status != "resolved":
            raise _unanswered(self.text, answer)
        if self.schema is None or isinstance(self.schema, Mapping):
            return answer.payload
        try:
            return _read(self.schema, answer.payload)
        except (ValueError, TypeError) as error:
            raise AgentError(f"The answer to {self.text!r} could not be used.", code="invalid_answer") from error

    @property
    def identity(self) -> str:
        """The same for the same question: by it a resumable agent's answers are found again."""
        form, _ = self._form()
        given = [self.text, self.reason, self.name, self.arguments, form]
        return hashlib.sha256(msgspec.json.encode(to_json(given), order="sorted")).hexdigest()

    def _form(self) -> tuple[dict[str, Any], Callable[[Any], Fault | None]]:
        if self.options is not None:
            options = [str(one) for one in self.options]
            if not options or self.schema is not None:
                raise _invalid(self.text, "give at least one option, and no schema beside options")
            return {"type": "string", "enum": options}, _anything
        if self.schema is None:
            return {"type": "string", "minLength": 1}, _anything
        kind: Any = self.schema
        try:
            form = cast(dict[str, Any], to_json(inlined(_schema_of(kind))))
            check_form(form)
        except BadForm as error:
            raise _invalid(self.text, str(error)) from error
        except Exception as error:
            raise _invalid(self.text, f"no JSON Schema can be made of {kind!r}") from error
        return form, _anything if isinstance(kind, Mapping) else lambda payload: _fault(kind, payload)


@dataclass(frozen=True)
class Approval:
    """A person allowed it. `arguments` are those that were allowed: the person may have changed them."""

    arguments: dict[str, Any]
    by: str = ""
    reason: str | None = None


def approval(
    name: str,
    arguments: Mapping[str, Any],
    *,
    text: str | None = None,
    tool_call_id: str | None = None,
    editable: Any = False,
    expires_in: float | None = None,
) -> Question:
    """The question whether `name` may be done with exactly these arguments.

    `editable`: True, or the form (as `Question.schema`) of the arguments that the person may give instead.
    """
    given = cast(dict[str, Any], to_json(dict(arguments)))
    text = text or f"Allow {name}?"
    try:
        schema = approval_schema(editable)
    except BadForm as error:
        raise _invalid(text, str(error)) from error
    return Question(
        text,
        schema=schema,
        expires_in=expires_in,
        reason="confirmation" if tool_call_id is None else "tool_call",
        tool_call_id=tool_call_id,
        arguments=given,
        name=name,
        metadata={"name": name, "arguments": given},
    )


def approval_schema(editable: Any = False) -> dict[str, Any]:
    """What an answer to an approval holds (AG-UI 1.0, `Interrupt.responseSchema`).

    Raises:
        BadForm: the arguments' form cannot stand inside it.
    """
    properties: dict[str, Any] = {"approved": {"type": "boolean"}, "reason": {"type": "string", "maxLength": 2000}}
    if editable is True:
        properties["editedArgs"] = {"type": "object"}
    elif editable is not False and editable is not None:
        properties["editedArgs"] = inlined(_schema_of(editable))
    return {"type": "object", "properties": properties, "required": ["approved"], "additionalProperties": False}


def approved(question: Question, answer: Answer) -> Approval:
    """The approval that an answer is.

    Raises:
        Declined: it is none. Only an explicit `approved: true` allows anything (I20).
    """
    if answer.status != "resolved":
        raise _unanswered(question.text, answer)
    payload: Any = answer.payload
    fields = cast(dict[str, Any], payload) if isinstance(payload, dict) else {}
    reason = fields.get("reason")
    reason = reason if isinstance(reason, str) and reason else None
    if fields.get("approved") is not True:
        sentence = f"{question.name or 'It'} was not allowed" + (f": {reason}" if reason else ".")
        raise Declined(sentence, status="denied", reason=reason, by=answer.by)
    edited = fields.get("editedArgs")
    arguments = cast(dict[str, Any], edited) if isinstance(edited, dict) else dict(question.arguments or {})
    return Approval(arguments, answer.by, reason)


def args_hash(args: Mapping[str, Any]) -> str:
    """SHA-256, hex, of the canonical JSON of a tool's arguments (sorted keys, no spaces, UTF-8)."""
    return hashlib.sha256(msgspec.json.encode(to_json(args), order="sorted")).hexdigest()


def marker(run: str, data: bytes = b"") -> AgentState:
    """The state that a run keeps which waits for an answer to `run.ask`; without data its agent waits in memory only."""
    return AgentState(run=run, adapter=ASKED, version=VERSION, data=data)


def _unanswered(text: str, answer: Answer) -> Declined:
    if answer.expired:
        return Declined(f"Nobody answered in time: {text}", status="expired")
    return Declined(f"The question was withdrawn: {text}", status="cancelled", by=answer.by)


def _anything(payload: Any) -> Fault | None:
    return None


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(cast(type[Any], kind), msgspec.Struct)


def _schema_of(kind: Any) -> Mapping[str, Any]:
    if isinstance(kind, Mapping):
        return cast(Mapping[str, Any], kind)
    if _is_struct(kind):
        return msgspec.json.schema(kind)
    from pydantic import TypeAdapter

    return TypeAdapter[Any](kind).json_schema()


def _read(kind: Any, payload: Any) -> Any:
    if _is_struct(kind):
        return msgspec.convert(payload, kind)
    from pydantic import TypeAdapter

    return TypeAdapter[Any](kind).validate_json(msgspec.json.encode(payload))


def _fault(kind: Any, payload: Any) -> Fault | None:
    """What the type itself has against the payload, beyond its schema: its own validators."""
    from pydantic import ValidationError

    try:
        _read(kind, payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return Fault("".join(f"/{step}" for step in first["loc"]), first["msg"].removeprefix("Value error, "))
    except (ValueError, TypeError):
        return Fault("", "does not have the form that is asked for")
    return None


def _invalid(text: str, why: str) -> AgentError:
    return AgentError(f"The agent asked {text!r} in a way that cannot be answered: {why}.", code="invalid_question")
