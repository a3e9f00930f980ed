"""Variables in a Dockerfile: ``$NAME``, ``${NAME}``, ``${NAME:-else}``, ``${NAME:+then}``, ``${NAME:?error}``.

Source: Docker's Dockerfile reference ("Environment replacement"). Single quotes and the escape character keep what
stands in them; quotes are taken off, as engines do. ``${NAME#pattern}``, ``%`` and ``/`` are told as not known: only
BuildKit has them, and what they give is for it to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_FILLED = 1024 * 1024
"""Characters; a value that doubles in each line would fill the memory. What is longer counts as not known."""

MAX_DEPTH = 20
"""Of ``${A:-${B:-...}}``; what lies deeper counts as not known."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#]")
_BRACED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:?[-+?]|[#%/]|\})?")


@dataclass
class Filled:
    """What became of a text. text: with variables replaced; those that are not known stay as they are written."""

    text: str = ""
    unknown: list[str] = field(default_factory=list)
    """Names without value that decide about the text."""
    beyond: list[str] = field(default_factory=list)
    """Names used in a form that only BuildKit has (``${NAME#pattern}``)."""


def fill(
    text: str, variables: Mapping[str, str], escape: str = "\\", *, keep_quotes: bool = False, depth: int = 0
) -> Filled:
    """Replace what is known. keep_quotes: quotes and escapes stay, for a text that is split into words later."""
    filled = Filled()
    position, quote = 0, ""
    while position < len(text):
        letter = text[position]
        if letter == escape and quote != "'":
            if keep_quotes or (quote and text[position + 1 : position + 2] not in ('"', "$", escape)):
                filled.text += letter
            filled.text += text[position + 1 : position + 2]
            position += 2
        elif letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
            filled.text += letter if keep_quotes else ""
            position += 1
        elif letter == "$" and quote != "'":
            position = _variable(text, position, variables, escape, filled, depth)
            if len(filled.text) > MAX_FILLED:
                return Filled(text, [*filled.unknown, text[:60]])
        else:
            filled.text += letter
            position += 1
    return filled


def _variable(text: str, position: int, variables: Mapping[str, str], escape: str, filled: Filled, depth: int) -> int:
    """Add what stands at a ``$``; where the text goes on."""
    if text.startswith("${", position):
        return _braced(text, position, variables, escape, filled, depth)
    match = _NAME.match(text, position + 1)
    if not match:
        filled.text += "$"
        return position + 1
    if match[0] not in variables:
        filled.unknown.append(match[0])
    filled.text += variables.get(match[0], "$" + match[0])
    return match.end()


def _braced(text: str, position: int, variables: Mapping[str, str], escape: str, filled: Filled, depth: int) -> int:
    end = _closing(text, position + 1, escape)
    written = text[position:end]
    match = _BRACED.match(written)
    if not match or not written.endswith("}") or match[2] is None:
        filled.text += written
        return end
    name, form, word = match[1], match[2], written[match.end() : -1]
    value = variables.get(name)
    if form == "}":
        filled.text += written if value is None else value
        if value is None:
            filled.unknown.append(name)
        return end
    if form in ("#", "%", "/") or depth >= MAX_DEPTH:
        filled.beyond.append(name)
        filled.unknown.append(name)
        filled.text += written
        return end
    is_there = value is not None and (value != "" or not form.startswith(":"))
    if form.endswith("?"):
        filled.text += (value or "") if is_there else written
        if not is_there:
            filled.unknown.append(name)
    elif is_there != form.endswith("-"):
        inner = fill(word, variables, escape, depth=depth + 1)
        filled.text += inner.text
        filled.unknown += inner.unknown
        filled.beyond += inner.beyond
    else:
        filled.text += (value or "") if form.endswith("-") else ""
    return end


def _closing(text: str, position: int, escape: str) -> int:
    """Behind the brace that closes the one at ``position``; the end of the text where none does."""
    depth = 0
    while position < len(text):
        if text[position] == escape:
            position += 1
        elif text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return len(text)
