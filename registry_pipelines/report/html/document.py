"""A whole page: its head, its style, and a policy that lets a browser load and run nothing."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from registry_pipelines.report.html.elements import Html, element, join, text

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --faint: #666666; --line: #d0d0d0;
 --good: #1b7837; --bad: #b2182b; --warn: #8a5a00; --s0: #4477aa; --s1: #c8344a; --s2: #228833; --s3: #8f7d0c;
 --s4: #1d8fb3; --s5: #aa3377; --s6: #666666; }
@media (prefers-color-scheme: dark) {
 :root { --ink: #e8e8e8; --paper: #15181c; --faint: #a0a0a0; --line: #3a3f45; --good: #7fd18f; --bad: #ff8f8f;
 --warn: #f0c060; --s0: #77aadd; --s1: #ee8899; --s2: #66cc77; --s3: #ddcc66; --s4: #88ddee; --s5: #dd88bb;
 --s6: #bbbbbb; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
 max-width: 72rem; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
code { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
.faint { color: var(--faint); } .good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.alert { border: 2px solid var(--bad); border-radius: 4px; padding: .5rem 1rem; margin: 1rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .92em; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
 overflow-wrap: anywhere; } th { overflow-wrap: normal; white-space: nowrap; } figure { margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
.statement { border-left: 4px solid var(--line); padding: .1rem 0 .1rem .75rem; margin: .5rem 0; }
.statement.verified { border-color: var(--good); } .statement.seen { border-color: var(--s0); }
.statement.unsigned, .statement.logged { border-color: var(--warn); border-left-style: dashed; }
.statement.rejected { border-color: var(--bad); border-left-style: double; }
.statement p { margin: 0; overflow-wrap: anywhere; } .statement ul { margin: .1rem 0; padding-left: 1.25rem; }
nav ul { columns: 2; } a { color: var(--s0); }
svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px sans-serif; }
svg .axis { stroke: var(--line); } svg .faint { fill: var(--faint); }
.f0 { fill: var(--s0); } .f1 { fill: var(--s1); } .f2 { fill: var(--s2); } .f3 { fill: var(--s3); }
.f4 { fill: var(--s4); } .f5 { fill: var(--s5); } .f6 { fill: var(--s6); }
.l0 { stroke: var(--s0); } .l1 { stroke: var(--s1); } .l2 { stroke: var(--s2); } .l3 { stroke: var(--s3); }
.l4 { stroke: var(--s4); } .l5 { stroke: var(--s5); } .l6 { stroke: var(--s6); }
@media print { body { max-width: none; } details { display: block; } }
""".strip()
"""Colours have a contrast of 4.5 to 1 or more on their paper, and are never the only sign: lines have dashes, states
have words."""

_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()

POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of a page: its own style, pictures within it, and no script at all."""


def document(title: str, *parts: object, made_at: str) -> str:
    """A page. made_at: RFC 3339; a page is true of that moment."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        Html(f"<style>{STYLE}</style>"),
    )
    foot = element("p", f"Made at {made_at} by registry-pipelines. It loads nothing and runs nothing.", class_="faint")
    body = element("body", element("main", *parts), element("footer", foot))
    return f'<!DOCTYPE html>\n<html lang="en">{join([head, body])}</html>\n'


def note(lines: object) -> Html:
    """A line that is less than the rest."""
    return element("p", text(lines), class_="faint")
