"""The full version of CPython, from the text in its program or library."""

from __future__ import annotations

import re

from registry_pipelines.oci.layer.walk import Entry
from registry_pipelines.scan.facts import AnyFact, Interpreter, Plain

ELF_MAGIC = b"\x7fELF"
_READ_BYTES = 1024 * 1024
_PYTHON_VERSION = re.compile(rb"3\.\d{1,2}\.\d{1,3}(?:(?:a|b|rc)\d{1,2})?\+?\0")
"""Begins with what is looked for: with what may stand before it in the pattern, it takes forty times as long."""


def read_interpreter(entry: Entry, series: str) -> AnyFact:
    """Look for the version text in the program, a mebibyte at a time. series: ``3.11``, as far as its name says."""
    tail = entry.head(4)
    if tail != ELF_MAGIC:
        return Plain()
    alone: set[str] = set()
    ending: set[str] = set()
    while chunk := entry.head(_READ_BYTES):
        window = tail + chunk
        for match in _PYTHON_VERSION.finditer(window):
            before = window[match.start() - 1 : match.start()]
            if before.strip(b"0123456789."):
                (alone if before == b"\0" else ending).add(match[0][:-1].decode())
        tail = window[-32:]
    # Linkers merge a string into the end of a longer one, so the version may only stand at the end of a path.
    version = _only(alone, series) or _only(ending, series)
    return Interpreter(series=series if "." in series else _series(version), version=version)


def _only(versions: set[str], series: str) -> str:
    """The one version that fits the name's series; empty when there is none, or more than one."""
    fitting = {text.rstrip("+") for text in versions if "." not in series or _series(text) == series}
    return fitting.pop() if len(fitting) == 1 else ""


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
