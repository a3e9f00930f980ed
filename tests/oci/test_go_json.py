"""Image configs that say one thing to Go's JSON reader and another to others."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.go_json import lists_layers
from registry_pipelines.oci.manifests import read_image_config

PLAIN = b'{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:' + b"0" * 64 + b'"]}}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"rootfs", b"ROOTFS"),
        (b"diff_ids", b"diff_IDs"),
        (b"rootfs", rb"rootf\u017f"),
        (b'{"os"', b'{"rootfs":{},"os"'),
        (b'"type"', b'"diff_ids":[],"type"'),
        (b'"os":"linux"', b'"OS":"windows"'),
        (b'"os":"linux"', b'"os":"linux","os":"windows"'),
    ],
)
def test_what_two_programs_read_apart_is_refused_and_has_layers(before: bytes, after: bytes) -> None:
    assert before in PLAIN
    raw = PLAIN.replace(before, after)
    assert lists_layers(raw)
    with pytest.raises(ManifestInvalid, match="twice, or with other capital letters"):
        read_image_config(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b"null", b'{"rootfs":null}', b'{"rootfs":{"diff_ids":null}}', b"\x00asm", b"{"]
)
def test_what_has_no_layers(raw: bytes) -> None:
    assert not lists_layers(raw)


def test_what_is_nested_too_deep_is_looked_at() -> None:
    deep = b'{"rootfs":{"diff_ids":["x"]},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert lists_layers(deep)
    with pytest.raises(ManifestInvalid):
        read_image_config(deep)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(st.dictionaries(st.sampled_from(["os", "config", "history", "rootfs", "author"]), JSON), st.binary())
def test_anything_is_read_or_refused(document: dict[str, object], more: bytes) -> None:
    for raw in (json.dumps(document).encode(), more, PLAIN + more, json.dumps(document).encode()[:-1] + more):
        try:
            config = read_image_config(raw)
        except ManifestInvalid:
            lists_layers(raw)
        else:
            assert lists_layers(raw) == bool((config.rootfs or {}).get("diff_ids"))
