"""Pages of indexes, as strangers write them; where a project comes from, whatever the configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from registry_pipelines.build.packages.metadata import check_metadata
from registry_pipelines.build.packages.model import FolderIndex
from registry_pipelines.build.packages.pages import JSON_TYPE, Project, read_page
from registry_pipelines.build.packages.routing import asked_for, normalised
from registry_pipelines.errors import InputError, RegistryError, RequirementsInvalid

URL = "https://index.example/simple/leaf/"


def read(raw: bytes | str, kind: str = JSON_TYPE, url: str = URL) -> Project:
    text = raw if isinstance(raw, bytes) else raw.encode()
    return read_page(text, kind, name="leaf", url=url, where="here")


def listed(*files: dict[str, Any], **more: Any) -> str:
    return json.dumps({"meta": {"api-version": "1.4"}, "name": "leaf", "files": list(files), **more})


GOOD = {"filename": "leaf-1.0-py3-none-any.whl", "url": "x/leaf-1.0-py3-none-any.whl", "hashes": {"sha256": "a" * 64}}


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"filename": "Leaf-1.0-py3-none-any.whl"}, True),
        ({"filename": "other-1.0-py3-none-any.whl"}, False),
        ({"filename": "../leaf-1.0-py3-none-any.whl"}, False),
        ({"filename": "leaf-1.0.tar.gz"}, False),
        ({"url": "file:///etc/leaf-1.0-py3-none-any.whl"}, False),
        ({"url": "ftp://x/leaf-1.0-py3-none-any.whl"}, False),
        ({"url": "https://user:word@x/leaf-1.0-py3-none-any.whl"}, False),
        ({"url": "https://[x/leaf-1.0-py3-none-any.whl"}, False),
        ({"hashes": {"sha256": "a" * 63}}, False),
        ({"hashes": {"sha256": 7}}, True),
        ({"hashes": {"md5": "a" * 32}}, True),
        ({"yanked": "why"}, True),
        ({"size": -1, "requires-python": 3, "upload-time": {}, "provenance": 9}, True),
    ],
)
def test_which_files_of_a_page_are_taken(change: dict[str, Any], taken: bool) -> None:
    project = read(listed({**GOOD, **change}))
    assert (len(project.files), project.others) == ((1, 0) if taken else (0, 1))


def test_what_a_page_says_in_both_forms() -> None:
    told = read(
        listed(
            {
                **GOOD,
                "core-metadata": {"sha256": "b" * 64},
                "yanked": "why",
                "provenance": "p/1",
                "requires-python": ">3",
            },
            **{"project-status": {"status": "archived", "reason": "done\x00"}},
        )
    )
    html = (
        '<html><head><meta name="pypi:project-status" content="archived"><base href="https://index.example/simple/leaf/">'
        '<meta name="pypi:project-status-reason" content="done "></head><body><a href="x/leaf-1.0-py3-none-any.whl'
        f'#sha256={"a" * 64}" data-core-metadata="sha256={"b" * 64}" data-yanked="why" data-requires-python="&gt;3" '
        'data-provenance="p/1">leaf</a></body></html>'
    )
    same = read(html, "text/html; charset=utf-8", "https://elsewhere.example/")
    assert told.said.strip() == same.said.strip() == "archived: done"
    [one], [other] = told.files, same.files
    assert one == other
    assert one.url == f"{URL}x/leaf-1.0-py3-none-any.whl" and one.provenance == f"{URL}p/1"
    assert one.metadata_sha256 == "b" * 64 and one.yanked == "why" and one.requires_python == ">3"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"{", JSON_TYPE),
        (b"[" * 100_000, JSON_TYPE),
        (listed().replace("1.4", "2.0").encode(), JSON_TYPE),
        (b'<meta name="pypi:repository-version" content="2.0">', "text/html"),
        (b"\x7fELF", "application/octet-stream"),
        (b'{"files": [{"filename": 1}]}', JSON_TYPE),
    ],
)
def test_what_is_no_page_is_an_error(raw: bytes, kind: str) -> None:
    with pytest.raises(RegistryError):
        read(raw, kind)


@settings(max_examples=200, deadline=None)
@given(
    raw=st.binary(max_size=300)
    | st.text(max_size=200).map(str.encode)
    | st.text("<a href='x'>&#;=/\"-1.whl", max_size=200).map(str.encode),
    kind=st.sampled_from([JSON_TYPE, "text/html", "", "application/json"]),
)
def test_any_page_is_read_or_refused(raw: bytes, kind: str) -> None:
    try:
        project = read(raw, kind)
    except RegistryError:
        return
    for file in project.files:
        assert file.url.startswith(("http://", "https://"))
        assert canonicalize_name(file.filename.split("-")[0]) == "leaf"


NAMES = st.from_regex(r"[A-Za-z]([A-Za-z._-]{0,6}[A-Za-z])?", fullmatch=True)
PATTERNS = st.lists(NAMES | NAMES.map(lambda name: f"{name}*") | st.just("*"), max_size=2).map(tuple)
INDEXES = st.lists(st.tuples(st.booleans(), PATTERNS, PATTERNS), min_size=1, max_size=4)


class Named:
    def __init__(self, number: int, public: bool, names: tuple[str, ...], only: tuple[str, ...]) -> None:
        from pathlib import Path

        self.name = f"i{number}"
        self.rules = FolderIndex(name=self.name, kind="folder", folder=Path(), public=public, names=names, only=only)


@settings(max_examples=200, deadline=None)
@given(told=INDEXES, project=NAMES)
def test_a_private_index_always_comes_first_and_a_reserved_name_is_alone(told: Any, project: str) -> None:
    indexes = [Named(number, *each) for number, each in enumerate(told)]
    name = normalised(project)
    exact = [each for each in indexes if name in map(normalised, each.rules.names)]
    try:
        asked, reserved = asked_for(project, indexes)
    except InputError:
        assert len([each for each in indexes if each.rules.names]) > 1
        return
    assert not exact or (reserved and asked == exact)
    if reserved:
        assert len(asked) == 1 and asked[0].rules.names
    else:
        publics = [each.rules.public for each in asked]
        assert publics == sorted(publics)
        assert asked_for(project.upper(), indexes) == (asked, reserved)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"Requires-Dist: {text}\n".encode()))
def test_any_metadata_is_looked_at(raw: bytes) -> None:
    try:
        check_metadata(raw, where="x")
    except RequirementsInvalid as error:
        assert "address of its own" in str(error)
