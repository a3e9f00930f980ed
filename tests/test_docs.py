"""The documentation as a site: it builds without a warning, reads as it was written, needs nothing from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import permissions
from tests.exit_codes import PAGE, page

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does: broken links, missing headings and pages that the navigation lacks are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def prose(html: str) -> str:
    """What stands in a page's own text, without its code."""
    main = html[html.index('role="main"') :]
    return re.sub(r"<(pre|code)\b.*?</\1>", "", main, flags=re.DOTALL)


def test_no_page_shows_markdown_that_was_not_understood(site: Path) -> None:
    """The site's Markdown is stricter than GitHub's: a list or a table needs an empty line before it, and in a list a
    fenced block is none."""
    left = []
    for path in site.rglob("*.html"):
        html = path.read_text()
        if 'role="main"' in html:
            paragraphs = re.findall(r"<p>(.*?)</p>", prose(html), re.DOTALL)
            lines = [line for paragraph in paragraphs for line in paragraph.split("\n")]
            left += [f"{path.name}: {line}" for line in lines if re.match(r"\s*([-*] |\d+\. |\||#+ )", line)]
            left += [f"{path.name}: a fenced block" for _ in re.findall(r"```|<code>(?:text|yaml|sh|json)\n", html)]
    assert left == []


def test_the_search_finds_a_field_and_nothing_comes_from_elsewhere(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert any("accept_unknowns" in entry["text"] for entry in index["docs"])
    pages = [path.read_text() for path in site.rglob("*.html")]
    assert len(pages) > 20
    assert [link for html in pages for link in re.findall(r'(?:src|<link[^>]*href)="(?:https?:)?//[^"]*', html)] == []


def test_the_page_of_exit_codes_is_the_code() -> None:
    assert PAGE.read_text() == page(), "write it again: make docs"


def test_the_page_of_permissions_is_the_table() -> None:
    told = permissions.PAGE.read_text()
    assert told == permissions.page(told), "write it again: make docs"
