"""What commands print with ``--json``, held against the schema that the command has."""

from __future__ import annotations

import functools
import json
from typing import Any

from jsonschema import Draft202012Validator

from registry_pipelines.cli.answers import schema_of

MANY = (
    *("build", "scan", "replicate", "mirror run", "mirror check", "sync"),
    *("collect plan", "collect apply", "collect quarantined", "collect purge"),
    "stream recordings collect",
)
"""Commands that may answer with several results."""


@functools.cache
def _validator(command: str) -> Draft202012Validator:
    return Draft202012Validator(schema_of(command))


def document(text: str) -> dict[str, Any]:
    """The whole document. Fails where it is not as the command's schema says."""
    found: dict[str, Any] = json.loads(text)
    wrong = [f"{error.json_path}: {error.message[:300]}" for error in _validator(found["command"]).iter_errors(found)]
    assert not wrong, wrong
    assert found["ok"] is (found["exit_code"] == 0)
    assert found["error"] is not None or found["result"] is not None
    return found


def answered(text: str) -> Any:
    """What a test is about: the results of stages as a list or, where there is only one, that one; other answers with
    ``ok`` and ``exit_code`` beside them; the document of a command that an error ended."""
    found = document(text)
    result = found["result"]
    if found["error"] is not None or result is None:
        return found
    if result.keys() in ({"results"}, {"releases"}, {"plans"}):
        [rows] = result.values()
        return rows if found["command"] in MANY or "results" not in result else rows[0]
    return {**{name: found[name] for name in ("ok", "exit_code")}, **result}
