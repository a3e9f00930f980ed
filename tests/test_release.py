"""Release keys: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)


@given(NAMES, TAGS, st.binary(max_size=8))
def test_key_round_trip(image: str, tag: str, content: bytes) -> None:
    release = Release(image, tag, Digest.of(content))
    assert Release.parse(release.key) == release


@given(st.text(max_size=80))
def test_anything_else_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        Release.parse(text)


def test_a_cut_key_is_refused() -> None:
    key = Release("forecaster", "v1.0.0", Digest.of(b"")).key
    for end in range(len(key)):
        with pytest.raises(InputError):
            Release.parse(key[:end])
