"""What many commands answer: rows, results of stages, files, and what went wrong."""

from __future__ import annotations

from typing import TypedDict

from registry_pipelines.chain.result import StageResult

Row = dict[str, str | int | float | bool | None]
"""A row of a table."""


class Failure(TypedDict, total=False):
    """What ended a command, as the message on stderr."""

    error: str
    """The class of the error (docs/exit-codes.md)."""
    what: str
    where: str
    do: str
    notes: list[str]
    problems: list[str]
    reasons: list[str]
    next_steps: list[str]


class Results(TypedDict):
    """What stages did, one result for each thing that was done."""

    results: list[StageResult]


class Served(TypedDict):
    """Registries that are listening now; printed while the command goes on."""

    registries: list[Row]


class Listening(TypedDict):
    """A webhook for clusters, or a node's socket, is listening now; printed while the command goes on."""

    url: str


class WrittenFiles(TypedDict):
    """Files that were written."""

    files: list[str]


class WrittenSettings(TypedDict):
    """Files that were written for other programs, and what is to be done with them, a sentence each."""

    files: list[str]
    notes: list[str]


class Written(TypedDict):
    """A document that was written into a file."""

    file: str
    bytes: int
    format: str
