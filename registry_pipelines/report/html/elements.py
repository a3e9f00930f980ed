"""HTML and SVG as elements. Text is text wherever it comes from: only :class:`Html` is taken as it is."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Control characters, what has no width, and what turns the direction of text: with them a name looks like another."""

VOID = frozenset({"meta", "br", "hr", "link", "img"})


class Html(str):
    """Markup that was made here."""

    __slots__ = ()


def text(value: object) -> Html:
    """Any value as text: escaped, and with nothing in it that is not seen."""
    return value if isinstance(value, Html) else Html(html.escape(_UNSEEN.sub("\N{REPLACEMENT CHARACTER}", str(value))))


def join(parts: Iterable[object]) -> Html:
    """Parts one after the other."""
    return Html("".join(text(each) for each in parts))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. attributes: ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``, ``viewBox`` stays; None
    leaves one out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{told}>" if name in VOID else f"<{name}{told}>{join(children)}</{name}>")


def words(told: str) -> Html:
    """A sentence in which what stands between backticks is code, as messages of ours write it."""
    parts = told.split("`")
    if len(parts) % 2 == 0:  # one without its other
        return text(told)
    return join(element("code", part) if number % 2 else part for number, part in enumerate(parts))


def table(rows: Sequence[Mapping[str, object]], *, caption: str = "") -> Html:
    """Plain rows as a table, with the columns of all of them. Nothing for no rows."""
    if not rows:
        return Html("")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = element("tr", *(element("th", name.replace("_", " "), scope="col") for name in columns))
    body = [element("tr", *(element("td", row.get(name, "")) for name in columns)) for row in rows]
    caption_ = [element("caption", caption)] if caption else []
    shown = element("table", *caption_, element("thead", head), element("tbody", *body))
    return element("div", shown, class_="wide")


def bullets(lines: Iterable[object]) -> Html:
    """A list; nothing for no lines."""
    items = [element("li", each) for each in lines]
    return element("ul", *items) if items else Html("")


def digest(value: str) -> Html:
    """A digest, cut to what people compare, with the whole of it for who looks or copies."""
    algorithm, colon, hexadecimal = value.partition(":")
    short = f"{algorithm}:{hexadecimal[:12]}" if colon and len(hexadecimal) > 12 else value
    return element("code", short, title=value)
