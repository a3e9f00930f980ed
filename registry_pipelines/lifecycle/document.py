"""A policy's JSON: read as it is, with every problem noted at its path."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from registry_pipelines.errors import LifecycleInvalid

MAX_POLICY_BYTES = 1 << 20
"""ECR takes 30,720 characters, Artifact Registry ten policies; what is larger is something else."""

MISSING: Any = object()


class Problems:
    """Collects what is wrong with a policy. warnings: what is permitted and hardly meant so."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._proposals: list[Callable[[int], str]] = []

    def add(self, path: str, text: str) -> None:
        """One more error."""
        self.errors.append(f"{path}: {text}" if path else text)

    def warn(self, path: str, text: str) -> None:
        """Something to look at."""
        self.warnings.append(f"{path}: {text}" if path else text)

    def propose(self, text: Callable[[int], str]) -> None:
        """What to write in place of something wrong; it is given a priority that no rule has."""
        self._proposals.append(text)

    def end(self, where: str, *, free: int = 0) -> None:
        """Raise LifecycleInvalid when there was an error. free: the first priority that no rule has."""
        if self.errors:
            texts = [text(free + at) for at, text in enumerate(self._proposals)]
            raise LifecycleInvalid(self.errors, where=where, instead=texts)


def read_json(text: str, *, where: str = "") -> Any:
    """The document. A name that stands twice in one object is an error: readers differ in which one counts. Raises
    LifecycleInvalid."""
    problems = Problems()

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for name, each in found:
            if name in value:
                problems.add("", f"`{name}` stands twice in one object")
            value[name] = each
        return value

    def constant(word: str) -> Any:
        problems.add("", f"{word} is no JSON")

    if len(text) > MAX_POLICY_BYTES:
        raise LifecycleInvalid([f"longer than {MAX_POLICY_BYTES} characters"], where=where)
    try:
        document = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise LifecycleInvalid([f"this is no JSON: {error}"], where=where) from error
    problems.end(where)
    return document


def known(value: Mapping[str, Any], names: Iterable[str], path: str, problems: Problems) -> None:
    """Note every name that the grammar does not have, with the one that was probably meant."""
    names = list(names)
    for name in value:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(names)}"
            problems.add(f"{path}.{name}" if path else name, f"is no field; {hint}")


def mapping(value: Any, path: str, problems: Problems) -> Mapping[str, Any] | None:
    """An object, or None with a problem."""
    if isinstance(value, dict):
        return value
    problems.add(path, f"{'is missing' if value is MISSING else 'must be an object'}")
    return None


def word(value: Any, choices: Iterable[str], path: str, problems: Problems) -> str:
    """One of some words, else empty with a problem."""
    choices = list(choices)
    if isinstance(value, str) and value in choices:
        return value
    said = "is missing" if value is MISSING else f"{shown(value)} is not permitted"
    problems.add(path, f"{said}; write {' or '.join(choices)}")
    return ""


def number(value: Any, path: str, problems: Problems, *, least: int = 1) -> int:
    """A whole number, else 0 with a problem."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    said = "is missing" if value is MISSING else f"{shown(value)} is not permitted"
    problems.add(path, f"{said}; write a whole number of at least {least}")
    return 0


def texts(value: Any, path: str, problems: Problems) -> tuple[str, ...]:
    """A list of texts that are not empty, without repeats."""
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        problems.add(path, "must be a list of texts, at least one, none of them empty")
        return ()
    if len(set(value)) != len(value):
        problems.add(path, "names one twice")
    return tuple(value)


def shown(value: Any) -> str:
    """A value as the document has it, cut."""
    return json.dumps(value, default=str)[:60]
