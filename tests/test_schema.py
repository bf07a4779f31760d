"""The schema file is what the structs say, and the cases are what the schema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runcast import schema

CASES = sorted((Path(__file__).parents[1] / "spec" / "cases" / "transcript").glob("*.json"))


def test_the_file_is_fresh() -> None:
    assert schema.SCHEMA_FILE.read_text(encoding="utf-8") == schema.text(), "run `python -m runcast.schema`"


def test_the_file_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())


def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator({**schema.schema(), "$ref": f"#/$defs/{name}"})


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_cases_fit_the_schema(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    validator("Transcript").validate(case["transcript"])
    known = set(schema.schema()["$defs"]["Event"]["discriminator"]["mapping"])
    events = validator("Event")
    for event in case["events"]:
        if event["type"] in known:
            events.validate(event)


def test_the_schema_refuses_what_is_wrong() -> None:
    assert list(validator("Event").iter_errors({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m"}))
    assert list(validator("Command").iter_errors({"op": "cancel"}))
    assert list(validator("Transcript").iter_errors({"schema": 1, "seq": 0, "runs": [], "posted": []})), (
        "title is always there"
    )


def test_check_tells_a_stale_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema, "SCHEMA_FILE", tmp_path / "schema.json")
    (tmp_path / "schema.json").write_text("{}")
    assert schema.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert schema.main([]) == 0
    assert schema.main(["--check"]) == 0
