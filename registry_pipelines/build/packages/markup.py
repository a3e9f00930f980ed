"""HTML as far as an index's page needs it, in time that grows with its length.

Pages have megabytes, and whoever runs an index writes them: no character is looked at again for each tag that begins
before it. Source: WHATWG HTML, "Tokenization"; PEP 503 wants anchors alone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_UNSEEN = re.compile(r"<(?:!--|(script|style)\b)", re.IGNORECASE)
_ENDS = {
    name: re.compile(end, re.IGNORECASE)
    for name, end in (("", "-->"), ("script", "</script[^<>]*>"), ("style", "</style[^<>]*>"))
}
# A tag ends before the next one begins, so that what never ends is not read again from each beginning.
_TAG = re.compile(r"""<([a-z]+)(?=[\s/>])((?:[^<>"']|"[^"]*"|'[^']*')*+)>""", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]++)(?:\s*+=\s*+(?:"([^"]*)"|'([^']*)'|([^\s"'<>]++)))?""")
_ANY_TAG = re.compile(r"<[^<>]*>")


def tags(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Beginning tags: their names, and their attributes with entities filled in, in lower case; the first of each."""
    for match in _TAG.finditer(_seen(text)):
        about: dict[str, str] = {}
        for name, *values in _ATTRIBUTE.findall(match[2]):
            about.setdefault(name.lower(), html.unescape("".join(values)))
        yield match[1].lower(), about


def words(text: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(_ANY_TAG.sub(" ", _seen(text)).split())


def _seen(text: str) -> str:
    """Without comments, scripts and styles; one that never ends takes the rest."""
    kept, at = [], 0
    while start := _UNSEEN.search(text, at):
        kept.append(text[at : start.start()])
        end = _ENDS[(start[1] or "").lower()].search(text, start.end())
        if end is None:
            return "".join(kept)
        at = end.end()
    return "".join([*kept, text[at:]])


__all__ = ["tags", "words"]
