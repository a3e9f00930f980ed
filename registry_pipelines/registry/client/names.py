"""The strings of one JSON list, as they arrive: a registry that ignores page sizes may send millions of names at once.

Only what is needed of the grammar is checked: one object, its list whole, nothing cut off.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator

from registry_pipelines.errors import RegistryError

MAX_TOKEN_CHARACTERS = 64 * 1024
"""Of one string or number; names have at most 255."""

_CHUNK_BYTES = 64 * 1024
_TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\\x00-\x1f]|\\.)*"|[{}\[\]:,]|[^ \t\r\n"{}\[\]:,]+)')
_RUN = re.compile(r'(?:[ \t\r\n]*"[^"\\\x00-\x1f]*"[ \t\r\n]*,)+')
_BLANK = re.compile(r"[ \t\r\n]*\Z")


def read_names(readinto: Callable[[memoryview], int], field: str, *, where: str) -> Iterator[str]:
    """The strings of the top object's list ``field``; none where it is missing or null. Raises RegistryError for
    anything else, possibly after some were given."""
    tokens = _Tokens(readinto)
    try:
        if tokens.next() != "{":
            raise _NotAList
        while (key := tokens.next()) != "}":
            if key == ",":
                continue
            if key[0] != '"' or tokens.next() != ":":
                raise _NotAList
            if _unquoted(key) == field:
                yield from _strings(tokens)
            else:
                _skip(tokens)
        tokens.end()
    except _NotAList as error:
        raise RegistryError(f"the list is not a JSON object with a list of strings `{field}`", where=where) from error


class _NotAList(ValueError):
    """The grammar does not hold."""


class _Tokens:
    def __init__(self, readinto: Callable[[memoryview], int]) -> None:
        self._readinto = readinto
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended = "", 0, False

    def next(self) -> str:
        """The next one. Raises _NotAList at the end."""
        while True:
            match = _TOKEN.match(self._text, self._at)
            whole = match is not None and (match.end() < len(self._text) or self._ended or match[1][0] in '"{}[]:,')
            if match is not None and whole:
                self._at = match.end()
                return match[1]
            if self._ended or len(self._text) - self._at > MAX_TOKEN_CHARACTERS:
                raise _NotAList
            self._fill()

    def run(self) -> list[str]:
        """Plain strings with their commas, as many as are here; the json module is ten times as fast."""
        match = _RUN.match(self._text, self._at)
        if match is None:
            return []
        self._at = match.end()
        return list(json.loads(f"[{match[0][:-1]}]"))

    def end(self) -> None:
        """Nothing may follow. Raises _NotAList."""
        while True:
            if not _BLANK.match(self._text, self._at):
                raise _NotAList
            if self._ended:
                return
            self._text, self._at = "", 0
            self._fill()

    def _fill(self) -> None:
        count = self._readinto(self._chunk)
        self._ended = not count
        try:
            more = self._decoder.decode(bytes(self._chunk[:count]), final=self._ended)
        except UnicodeDecodeError as error:
            raise _NotAList from error
        self._text, self._at = self._text[self._at :] + more, 0


def _strings(tokens: _Tokens) -> Iterator[str]:
    piece = tokens.next()
    if piece == "null":
        return
    if piece != "[":
        raise _NotAList
    piece = tokens.next()
    while piece != "]":
        if piece[0] != '"':
            raise _NotAList
        yield _unquoted(piece)
        piece = tokens.next()
        if piece == ",":
            yield from tokens.run()
            piece = tokens.next()
            if piece == "]":
                raise _NotAList
        elif piece != "]":
            raise _NotAList


def _unquoted(piece: str) -> str:
    if "\\" not in piece:
        return piece[1:-1]
    try:
        return str(json.loads(piece))
    except ValueError as error:
        raise _NotAList from error


def _skip(tokens: _Tokens) -> None:
    depth = 0
    while True:
        piece = tokens.next()
        depth += (piece in "{[") - (piece in "}]")
        if depth < 0 or (depth == 0 and piece in ":,"):
            raise _NotAList
        if depth == 0:
            return
