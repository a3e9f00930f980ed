"""The page names every number, as the table of numbers has it."""

from __future__ import annotations

import os
from pathlib import Path

from registry_pipelines.measures import MEASURES

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
BEGIN, END = "<!-- numbers -->\n", "<!-- end of numbers -->\n"


def test_the_page_has_every_number() -> None:
    rows = [
        f"| `{name}` | {each.unit} | {', '.join(f'`{label}`' for label in each.labels) or 'none'} | {each.told} |"
        for name, each in MEASURES.items()
    ]
    wanted = "\n".join(["", "| number | unit | labels | what it is |", "|---|---|---|---|", *rows, "", ""])
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    if os.environ.get("RP_UPDATE_SNAPSHOT"):
        after = rest.partition(END)[2] if END in rest else rest
        PAGE.write_text(f"{before}{BEGIN}{wanted}{END}{after}")
        return
    assert rest.partition(END)[0] == wanted, "RP_UPDATE_SNAPSHOT=1 writes it"
