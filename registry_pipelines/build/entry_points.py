"""Console scripts of a wheel: reading entry_points.txt, and the programs an installer makes of it.

Read as ``importlib.metadata`` and pip do, line by line (PyPA "Entry points specification"): an indented line is an
entry of its own, ``#`` begins a comment, extras in brackets mean nothing to a script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry_pipelines.build.archive import check_path
from registry_pipelines.errors import WheelInvalid

SECTIONS = ("console_scripts", "gui_scripts")

_REFERENCE = re.compile(r"(?P<module>\w+(\.\w+)*)\s*:\s*(?P<attr>\w+(\.\w+)*)\s*(?P<rest>.*)\Z", re.DOTALL)
_EXTRAS = re.compile(r"\[[^][]*\]\s*([#;].*)?\Z", re.DOTALL)
_SCRIPT = """\
#!{interpreter}
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({attr}())
"""
_VERSIONED = {
    "pip": (re.compile(r"pip(\d+(\.\d+)?)?\Z"), ("pip", "pip{major}", "pip{python}")),
    "easy_install": (re.compile(r"easy_install(-\d+\.\d+)?\Z"), ("easy_install", "easy_install-{python}")),
}
"""Programs whose wheels are made for one Python and installed by another: pip names them anew."""


@dataclass(frozen=True)
class EntryPoint:
    """A program: ``from module import attr``, called without arguments."""

    module: str
    attr: str

    def script(self, interpreter: str) -> bytes:
        """The program's text."""
        first = self.attr.partition(".")[0]
        text = _SCRIPT.format(interpreter=interpreter, module=self.module, first=first, attr=self.attr)
        return text.encode()


def read_entry_points(text: str, python: str, *, where: str) -> tuple[dict[str, EntryPoint], tuple[str, ...]]:
    """Programs by name (below the folder for scripts), and notes.

    python: the minor version they are for. Raises WheelInvalid for an entry that names no ``module:attribute``, or
    whose name leaves the folder; pip refuses both.
    """
    where = f"{where}, entry_points.txt"
    sections: dict[str, dict[str, EntryPoint]] = {section: {} for section in SECTIONS}
    notes: list[str] = []
    section = ""
    for raw in text.removeprefix("\ufeff").splitlines():
        line = raw.strip()
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section in sections:
            name, _, value = line.partition("=")
            name = check_path(name.strip(), where=where)
            sections[section][name] = _read_reference(name, value.strip(), where, notes)
    return _versioned(sections["console_scripts"], python) | sections["gui_scripts"], tuple(notes)


def _read_reference(name: str, value: str, where: str, notes: list[str]) -> EntryPoint:
    match = _REFERENCE.match(value)
    rest = match["rest"] if match else ""
    if not match or rest.startswith(":") or ("[" in rest and not _EXTRAS.match(rest)):
        raise WheelInvalid(f"entry point {name[:100]!r} = {value[:200]!r} is not module:attribute", where=where)
    if rest and rest[0] not in "[#;":
        notes.append(f"entry point {name[:100]}: {rest[:100]!r} behind the attribute means nothing")
    return EntryPoint(match["module"], match["attr"])


def _versioned(console: dict[str, EntryPoint], python: str) -> dict[str, EntryPoint]:
    for name, (pattern, names) in _VERSIONED.items():
        if name in console:
            entry = console[name]
            console = {other: point for other, point in console.items() if not pattern.match(other)}
            for text in names:
                console[text.format(major=python.partition(".")[0], python=python)] = entry
    return console
