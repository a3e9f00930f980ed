"""The page of custody as data and as HTML: what provenance of any builder says, and that text stays text."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.report.custody import CHAPTERS, STATES, Custody, Statement, in_order
from registry_pipelines.report.html.custody import custody_page
from registry_pipelines.report.html.elements import element, table, text, words
from registry_pipelines.report.origin import Input, read_origin

COMMIT = "4f3c2b1a" * 5
HOSTILE = "<script>alert(1)</script>\"'&\u202e\x1b[31m"

BUILDERS: dict[str, tuple[dict[str, Any], str, Input, str]] = {
    "ours": (
        {
            "buildDefinition": {
                "buildType": "urn:registry-pipelines:build:layers:v1",
                "resolvedDependencies": [
                    {"uri": "oci://python:3.12", "digest": {"sha256": "aa" * 32}},
                    {
                        "uri": "git+https://git.example/app.git",
                        "digest": {"gitCommit": COMMIT},
                        "annotations": {"dirty": True},
                    },
                    {"uri": "pkg:pypi/numpy@2.3.1", "digest": {"sha256": "bb" * 32}},
                ],
            },
            "runDetails": {"builder": {"id": "urn:registry-pipelines:builder:layers"}},
        },
        "urn:registry-pipelines:builder:layers",
        Input("git+https://git.example/app.git", f"gitCommit:{COMMIT}", dirty=True),
        "oci://python:3.12",
    ),
    "github": (
        {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "resolvedDependencies": [
                    {"uri": "git+https://github.com/team/app@refs/heads/main", "digest": {"gitCommit": COMMIT}}
                ],
            },
            "runDetails": {
                "builder": {"id": "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main"},
                "metadata": {"invocationId": "https://github.com/team/app/actions/runs/1/attempts/1"},
            },
        },
        "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main",
        Input("git+https://github.com/team/app@refs/heads/main", f"gitCommit:{COMMIT}"),
        "",
    ),
    "buildkit": (
        {
            "buildDefinition": {
                "buildType": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
                "resolvedDependencies": [
                    {"uri": "pkg:docker/python@3.12?platform=linux%2Famd64", "digest": {"sha256": "cc" * 32}}
                ],
            },
            "runDetails": {
                "builder": {"id": ""},
                "metadata": {
                    "startedOn": "2026-11-01T10:00:00Z",
                    "buildkit_metadata": {
                        "vcs": {"revision": f"{COMMIT}-dirty", "source": "https://git.example/app.git"}
                    },
                },
            },
        },
        "",
        Input("git+https://git.example/app.git", f"gitCommit:{COMMIT}", dirty=True),
        "pkg:docker/python@3.12?platform=linux%2Famd64",
    ),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_provenance_of_each_builder_names_source_builder_and_base(name: str) -> None:
    predicate, builder, source, base = BUILDERS[name]
    found = read_origin(predicate)
    assert (found.builder, found.sources) == (builder, (source,))
    assert [each.uri for each in found.bases] == ([base] if base else [])
    assert found.others == (1 if name == "ours" else 0)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["buildDefinition", "runDetails", "resolvedDependencies", "builder", "metadata", "id", "uri", "digest", "vcs"]
)
SHAPES = st.recursive(ANYTHING, lambda inner: st.dictionaries(FIELDS, inner, max_size=4), max_leaves=10)


@given(st.dictionaries(FIELDS, SHAPES | st.lists(SHAPES, max_size=3), max_size=4))
def test_provenance_of_any_shape_is_read_without_an_error(predicate: dict[str, Any]) -> None:
    found = read_origin(predicate)
    assert all(isinstance(each, str) for each in (found.builder, found.build_type, found.invocation))


class Read(HTMLParser):
    """What a reader of HTML sees: names of elements, attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_text_from_outside_is_never_markup(inside: str, attribute: str) -> None:
    read = Read(element("p", inside, title=attribute) + table([{"a": inside}]))
    assert read.names == ["p", "div", "table", "thead", "tr", "th", "tbody", "tr", "td"]
    assert [name for name, _ in read.attributes] == ["title", "class", "scope"]


def test_commands_in_a_sentence_are_code_and_half_a_pair_is_not() -> None:
    assert words("run `a<b` now") == "run <code>a&lt;b</code> now"
    assert words("a ` b") == "a ` b"


def test_what_is_not_seen_is_shown() -> None:
    assert text(HOSTILE) == (
        "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m"
    )


def test_every_state_is_told_in_words_and_nothing_unsigned_is_a_fact() -> None:
    statements = [
        Statement(chapter="source", says=f"{HOSTILE} {state}", state=state, signer="sha256:" + "ab" * 32, role="person")
        for state in STATES
    ]
    found = Custody(
        name=HOSTILE,
        digest="sha256:" + "00" * 32,
        place="registry.example/app",
        made_at="2026-11-29T20:00:00Z",
        sentence="denied",
        statements=in_order(statements),
        missing={"access": "not collected"},
        alerts=(HOSTILE,),
    )
    page = custody_page(found)
    read = Read(page)
    assert "script" not in read.names and not any(name.startswith("on") for name, _ in read.attributes)
    for state, told in STATES.items():
        own = page.partition('id="source"')[2].partition(f'class="statement {state}"')
        assert own[1] and told in own[0].rpartition("<div")[2] + own[2].partition("</div>")[0]
    assert read.text.count("signature verified: sha256:abababababab (person)") == 1
    assert "not collected" in read.text
    assert all(f'id="{chapter}"' in page for chapter in CHAPTERS)
    assert any(value and value.startswith("default-src 'none'; style-src 'sha256-") for _, value in read.attributes)


def test_reasons_that_are_alike_are_one_line_of_the_page_as_of_the_command() -> None:
    alike = tuple(f"accepted: uncovered:pkg:generic/lib{number}: nobody has data of it" for number in range(28))
    statement = Statement(chapter="verdicts", says="allowed", state="verified", details=("advisories: none", *alike))
    found = Custody(
        name="app:v1",
        digest="sha256:" + "00" * 32,
        place="registry.example/app",
        made_at="2026-11-29T20:00:00Z",
        sentence="allowed",
        statements=(statement,),
    )
    line = "accepted: 28 times, from uncovered:pkg:generic/lib0 to uncovered:pkg:generic/lib27: nobody has data of it"
    read = Read(custody_page(found))
    assert line in read.text and "lib3:" not in read.text and "details" not in read.names
    assert found.plain()["statements"][0]["details"] == ("advisories: none", *alike)  # JSON has each
