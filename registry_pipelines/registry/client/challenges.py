"""``WWW-Authenticate`` (RFC 9110, section 11.6.1): several challenges may share one header, commas may be quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

MAX_HEADER_CHARACTERS = 16 * 1024
"""Longer challenges are cut; real ones stay below 1 KiB."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a grammar rule, not a secret
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|$)")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))")
_ESCAPE = re.compile(r"\\(.)")


class Challenge(msgspec.Struct, frozen=True):
    """One challenge: the scheme in lower case (``bearer``, ``basic``), its parameters with names in lower case."""

    scheme: str
    parameters: dict[str, str] = {}

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes a bearer challenge asks for."""
        return frozenset(self.parameters.get("scope", "").split())


def read_challenges(values: Iterable[str]) -> list[Challenge]:
    """All challenges of all headers, in order; what cannot be read is left out. Never raises."""
    challenges: list[Challenge] = []
    for value in values:
        challenges += _read(value[:MAX_HEADER_CHARACTERS])
    return challenges


def _read(text: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    position = 0
    while position < len(text):
        if text[position] in " \t,":
            position += 1
            continue
        parameter = _PARAMETER.match(text, position)
        if parameter and challenges:
            quoted, plain = parameter[2], parameter[3]
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else plain
            challenges[-1].parameters.setdefault(parameter[1].lower(), value)
            position = parameter.end()
            continue
        scheme = _SCHEME.match(text, position)
        if scheme:
            challenges.append(Challenge(scheme[1].lower()))
            position = _skip_token68(text, scheme.end())
            continue
        position += 1
    return challenges


def _skip_token68(text: str, position: int) -> int:
    """Past the opaque token of schemes such as Negotiate, which would else be read as the next scheme."""
    start = position
    while start < len(text) and text[start] in " \t":
        start += 1
    token = _TOKEN68.match(text, start)
    return token.end() if token and start > position else position
