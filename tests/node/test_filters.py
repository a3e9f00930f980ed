"""Filters of lists, as containerd writes them."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.node.filters import MAX_LENGTH, parse_filters
from registry_pipelines.node.store import Info, Refused

REF = "containerd.io/snapshot.ref"
INFO = Info(1, "default/1/sha256:aa", "default/0/p", "committed", 0, 0, {REF: "sha256:aa", "plain": "x y", "e": ""})


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ([], True),
        ([""], True),
        ([f'labels."{REF}"==sha256:aa,parent=="default/0/p"'], True),
        ([f'labels."{REF}"==sha256:aa,parent==""'], False),
        ([f'labels."{REF}"==sha256:ab'], False),
        (["kind==active", "kind==committed"], True),
        (["kind==active,kind==committed"], False),
        (["kind != active , name"], True),
        (["labels.plain"], True),
        (["labels.e"], True),
        (["labels.none"], False),
        (["labels.none!=x"], True),
        (["labels.none==x"], False),
        (['labels.plain=="x y"'], True),
        (['labels.plain=="x\\x20\\u0079"'], True),
        (["name~=|^default/[0-9]+/sha|"], True),
        (['"name"~="aa$"'], True),
        (["other"], False),
    ],
)
def test_a_filter_fits_as_containerd_says(filters: list[str], fits: bool) -> None:
    assert parse_filters(filters)(INFO) is fits


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "name==",
        "name==a,",
        '"name',
        "name=a",
        "==a",
        'name=="a',
        "name~=(",
        "name~=/^default/[0-9]+/",
        "labels.",
        "1=2",
        "name==a b",
        'name=="\\q"',
        'name=="\\UFFFFFFFF"',
        "n" * (MAX_LENGTH + 1),
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_filters(["kind", text])
    assert refused.value.code == "INVALID_ARGUMENT"


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), min_size=1, max_size=3), st.data())
def test_whatever_a_label_is_it_is_found_by_its_quoted_name(labels: dict[str, str], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(sorted(labels)))
    info = INFO._replace(labels=labels)
    text = f"labels.{json.dumps(label, ensure_ascii=False)}=={json.dumps(labels[label], ensure_ascii=False)}"
    assert parse_filters([text])(info)


@given(st.text(alphabet=st.sampled_from('abz.,=!~"\\/|( )[]*+x0'), max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with contextlib.suppress(Refused):
        assert parse_filters([text])(INFO) in (True, False)


_SELECTORS = st.sampled_from(['parent=="p"', 'parent==""', 'parent=="q"', 'parent!="p"', "name", "kind==committed"])


@pytest.mark.parametrize(
    ("filters", "parent"),
    [
        ([f'labels."{REF}"==sha256:aa,parent=="default/0/p"'], "default/0/p"),
        (['kind==view,parent==""'], ""),
        ([], None),
        (["parent"], None),
        (["parent!=p"], None),
        (["parent~=p"], None),
        (["parent==p", "name==p"], None),
        (["parent==p", "parent==q"], None),
        (["parent==p,name==a", "name==b,parent==p"], "p"),
    ],
)
def test_a_filter_names_the_parent_of_all_that_fit(filters: list[str], parent: str | None) -> None:
    assert parse_filters(filters).parent == parent


@given(
    st.lists(st.lists(_SELECTORS, min_size=1, max_size=3).map(",".join), max_size=3), st.sampled_from(["", "p", "q"])
)
def test_nothing_that_fits_stands_on_another_parent(filters: list[str], parent: str) -> None:
    found = parse_filters(filters)
    if found(INFO._replace(parent=parent)):
        assert found.parent in (None, parent)
