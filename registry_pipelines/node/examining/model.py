"""One thing that was looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple

from registry_pipelines.errors import LocalError, RegistryPipelinesError

State = Literal["ok", "note", "failed"]
"""``note``: it works, but not as well, or it could not be looked at."""


class Finding(NamedTuple):
    """about: what was looked at, in a word or two. what: what was found. where: path, socket or host; empty where there
    is none. do: what to do about it; empty where it is well. exit_code: of a failure, as of the error that it is."""

    about: str
    state: State
    what: str
    where: str = ""
    do: str = ""
    exit_code: int = 0


def well(about: str, what: str, where: str = "") -> Finding:
    """Nothing to do."""
    return Finding(about, "ok", what, where)


def note(about: str, what: str, *, where: str = "", do: str = "") -> Finding:
    """Worth to know."""
    return Finding(about, "note", what, where, do)


def failed(about: str, what: str, *, where: str = "", do: str, exit_code: int = LocalError.exit_code) -> Finding:
    """It keeps images from being served."""
    return Finding(about, "failed", what, where, do, exit_code)


def from_error(about: str, error: RegistryPipelinesError) -> Finding:
    """The same of an error."""
    return Finding(about, "failed", error.what, error.where, error.do, error.exit_code)
