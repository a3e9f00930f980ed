"""The documentation as a site: it builds without a warning, reads as it was written, needs nothing from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pages
from tests.pages import PAGES, old

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


def test_every_page_that_is_written_from_the_code_is_what_the_code_says() -> None:
    assert len(PAGES) > 6 and list(old()) == [], "run: make docs"


def test_a_page_that_was_written_into_by_hand_is_named_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "PAGES", {page: pages.below("a table", lambda: "a row\n")})
    whole = "prose\n\n<!-- Written by `make docs` from a table. -->\n\na row\n"
    page.write_text(whole + "by hand\n")
    assert pages.main(["--check"]) == 1 and capsys.readouterr().err.startswith("page.md is not what the code says")
    assert pages.main([]) == 0 and page.read_text() == whole
    assert pages.main(["--check"]) == 0
