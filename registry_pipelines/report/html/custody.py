"""The page of custody of a digest, for people who do not have this program: an auditor, a customer."""

from __future__ import annotations

from collections.abc import Iterator

from registry_pipelines.progress import condensed
from registry_pipelines.report.custody import CHAPTERS, STATES, Chapter, Custody, Statement
from registry_pipelines.report.html.document import document
from registry_pipelines.report.html.elements import Html, bullets, digest, element, join, table, words

MOST_LINES = 8
"""Of one statement that are seen at once."""
MOST_ROWS = 5000
"""Of a table in a page; a browser shows no more without pain. How many more there are is said."""


def custody_page(found: Custody) -> str:
    """The whole page as HTML."""
    counts = found.counts()
    told = ", ".join(f"{count} {STATES[state]}" for state, count in counts.items() if count)
    return document(
        f"Custody of {found.name}",
        element("h1", "Custody of ", element("code", found.name)),
        element("p", element("strong", found.sentence)),
        element("p", "Read from ", element("code", found.place), f". Statements: {told or 'none'}.", class_="faint"),
        element("div", element("h2", "Know this first"), bullets(found.alerts), class_="alert", role="note")
        if found.alerts
        else "",
        _legend(),
        element("nav", element("ul", *map(_link, CHAPTERS)), aria_label="Chapters"),
        *(_chapter(found, chapter) for chapter in CHAPTERS),
        *_tables(found),
        join([element("h2", "Left out, or not read"), bullets(found.notes)]) if found.notes else "",
        made_at=found.made_at,
    )


def _legend() -> Html:
    rows = [element("span", f"{told}. ", class_=f"statement {state}") for state, told in STATES.items()]
    return element("p", "A fact is what a trusted key signed, or a registry said when asked. ", *rows, class_="faint")


def _link(chapter: Chapter) -> Html:
    return element("li", element("a", CHAPTERS[chapter], href=f"#{chapter}"))


def _chapter(found: Custody, chapter: Chapter) -> Html:
    statements = found.chapter(chapter)
    body = [_statement(each) for each in statements]
    if not body:
        body = [element("p", words(found.missing.get(chapter, "nothing is known")), class_="faint")]
    return element("section", element("h2", CHAPTERS[chapter]), *body, id=chapter)


def _statement(each: Statement) -> Html:
    when = [element("time", each.time, datetime=each.time), " "] if each.time else []
    by = [" by evidence ", digest(each.evidence)] if each.evidence else []
    proof = element("p", element("span", each.proof(), title=each.signer or None), *by, class_="faint")
    return element("div", element("p", *when, each.says), _details(each), proof, class_=f"statement {each.state}")


def _details(each: Statement) -> Html:
    """All of them, those that are alike as one; behind the first ones what is many opens."""
    lines = condensed(each.details)
    more = lines[MOST_LINES:]
    folded = element("details", element("summary", f"{len(more)} more"), bullets(more)) if more else ""
    return join([bullets(lines[:MOST_LINES]), folded])


def _tables(found: Custody) -> Iterator[Html]:
    for title, rows in (("Every finding that a report had", found.findings), ("Every package", found.packages)):
        if rows:
            more = len(rows) - MOST_ROWS
            yield element(
                "details",
                element("summary", f"{title} ({len(rows)})"),
                table(rows[:MOST_ROWS]),
                element("p", f"and {more} more, which the JSON has") if more > 0 else "",
            )
