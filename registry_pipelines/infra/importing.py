"""What is there, as it would be declared: what the halves of both clouds have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from registry_pipelines.infra.settings import Fields, Setting

Document = dict[str, Any]


class Importing:
    """files: content by path, below ``folder``; what has the same content stands in one. notes: what cannot be declared
    and is left out, one sentence each. A cloud's half makes its ``section`` of the configuration from :meth:`of`, where
    things with the same settings stand in one entry."""

    section: Document

    def __init__(self, place: str, settings: Iterable[Setting], *, folder: str = "") -> None:
        self._folder = f"{folder.rstrip('/')}/" if folder else ""
        self.files: dict[str, bytes] = {}
        self.notes: list[str] = []
        self._place = place
        self._there: dict[str, dict[str, Fields]] = {}
        for each in settings:
            if each.unread:
                self.notes.append(f"{each.key} cannot be read, and is left out: {each.unread}")
            elif each.found is not None:
                self._there.setdefault(each.kind, {})[each.name] = each.found

    def of(self, kind: str) -> dict[str, Fields]:
        """What was found of one kind, by name."""
        return self._there.get(kind, {})

    def file(self, what: str, stem: str, document: Any) -> str:
        """The path of a file with a document. what: stands in its name, behind the ``stem`` that it gets where no file
        of the kind has the same content."""
        content = (json.dumps(document, indent=2) + "\n").encode()
        for name, known in self.files.items():
            if known == content and name.endswith(f".{what}.json"):
                return name
        name = f"{self._folder}{self._place}.{stem}.{what}.json"
        self.files[name] = content
        return name


__all__ = ["Document", "Importing"]
