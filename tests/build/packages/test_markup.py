"""Tags of a page: as the standard library's parser reads them, where both are sure of what they read."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.build.packages.markup import tags, words


class Standard(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about: dict[str, str] = {}
        for name, value in attrs:
            about.setdefault(name, value or "")
        self.found.append((tag, about))


VALUES = st.text(alphabet="ab/.#=-1 >'\n", max_size=8).map(lambda text: text.replace("'", "&#39;"))
ATTRIBUTES = st.tuples(
    st.sampled_from(["href", "HREF", "data-yanked", "data-requires-python", "x"]),
    st.sampled_from(["", " = {}", "={}"]),
    VALUES,
    st.sampled_from("'\""),
).map(lambda each: f" {each[0]}{each[1].format(each[3] + each[2].replace('>', '&gt;') + each[3])}")
TAGS = st.tuples(st.sampled_from(["a", "A", "meta", "base", "br"]), st.lists(ATTRIBUTES, max_size=3)).map(
    lambda each: f"<{each[0]}{''.join(each[1])}>"
)
PARTS = st.one_of(
    TAGS, st.sampled_from(["text", "</a>", "<!-- <a href='no'> -->", "<script>'<a href=no>'</script>", "\n", "a > b"])
)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=8))
def test_pages_are_read_as_the_standard_library_reads_them(parts: list[str]) -> None:
    standard = Standard()
    standard.feed("".join(parts))
    standard.close()
    assert [each for each in tags("".join(parts)) if each[0] != "script"] == [
        each for each in standard.found if each[0] != "script"
    ]


@settings(deadline=None)
@given(st.text(alphabet="<>!-/a'\"=& #script", max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert all(name and set(about) == {each.lower() for each in about} for name, about in tags(text))
    assert "\n" not in words(text)


def test_a_page_that_never_ends_a_tag_is_read_to_its_end() -> None:
    for unit in ("<a ", "<a href='", "<", "<!-", "<script ", '<a "'):
        assert list(tags(unit * (1_000_000 // len(unit)))) == []
    assert words("<p>some <b>words</b><style>p {}</style> here<!-- no -->") == "some words here"
