"""The pages and pictures of the documentation that are written from the code.

``python -m tests.pages`` writes them (``make docs``); with ``--check`` it names those that are old and ends with 1
(``make lint``), so that what is written by hand into such a page, or forgotten, is seen in seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from registry_pipelines.cli import main as commands
from registry_pipelines.cli.help import help_page
from registry_pipelines.config.schema import reference_page
from tests import exit_codes, permissions, pictures, rooms
from tests.doubles.families.document import document

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def below(mark: str, part: Callable[[], str]) -> Callable[[str], str]:
    """A page of two halves: prose above the mark, and below it what the code says."""

    def page(text: str) -> str:
        above, found, _ = text.partition(f"<!-- Written by `make docs` from {mark}. -->\n")
        assert found, f"the line of what is written from {mark} is missing"
        return f"{above}{found}\n{part()}"

    return page


PAGES: Mapping[Path, Callable[[str], str]] = {
    DOCS / "registries.md": lambda _: document(),
    DOCS / "architecture.md": rooms.page,
    DOCS / "exit-codes.md": lambda _: exit_codes.page(),
    DOCS / "iam.md": below("registry_pipelines/data/permissions.json", permissions.page),
    DOCS / "cli.md": below("the help of the commands", lambda: help_page(commands)),
    DOCS / "configuration.md": below("the classes of the configuration", reference_page),
    **{DOCS / "images" / f"{name}.svg": pictures.page(name) for name in pictures.PICTURES},
}
"""Each page with what it should be, from what it is now."""


def old() -> dict[Path, str]:
    """The pages that are not what they should be, with what they should be."""
    now = {path: path.read_text(encoding="utf-8") for path in PAGES}
    wanted = {path: page(now[path]) for path, page in PAGES.items()}
    return {path: text for path, text in wanted.items() if text != now[path]}


def main(words: list[str]) -> int:
    """Write the pages that are old, or name them."""
    pages = old()
    for path, text in pages.items():
        if "--check" in words:
            print(f"{path.relative_to(ROOT)} is not what the code says: make docs", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
    return 1 if pages and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
