"""Names of objects, both ways: what a set of weights may have, each store takes and lists as it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.stores.store import ObjectStore, open_store
from registry_pipelines.weights.ends import from_folder
from registry_pipelines.weights.paths import fault_of
from registry_pipelines.weights.to_store import store_weights
from tests.doubles.blob_stores import azure_server
from tests.doubles.s3 import BUCKET, REGION, s3_server

HARD = [
    *("x#", "x#a", "x#1/y", "x#1#2", "a%20b", "%2F", "a%", "a b", "a+b", "ä", "a\u0301", "a?b", "a&b=<>", "a'\"b"),
    *("a.", " a", "a ", "~", "a:b", "a*b", "a\u2028b", "\x85", "\U0001f600", "...", "a/.b/c", "\ufeffa", "a;b", "[x]"),
]
LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\\ufffe\uffff")
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=20), min_size=1, max_size=3).map("/".join)


def holds(store: ObjectStore, name: str) -> None:
    """Written, listed, read and taken away."""
    if fault_of(name) or store.fault_of(name):
        return
    store.write(name, b"x")
    assert [each.key for each in store.below("")] == [name]
    assert (store.read(name, limit=9), store.size(name)) == (b"x", 1)
    with store.open(name, start=0, stop=1) as reader:
        assert reader.readinto(memoryview(bytearray(3))) == 1
    store.copy(name, "copy")
    store.delete_all([name, "copy"])
    assert list(store.below("")) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
@example("x#1/y")
@example("a%2F b")
@example("x/A:")
@example("A:/1:")
def test_a_folder_holds_all_names_that_it_says_it_does(tmp_path: Path, name: str) -> None:
    holds(open_store(str(tmp_path / f"{len(list(tmp_path.iterdir()))}")), name)


def test_a_folder_refuses_what_obstore_takes_for_half_a_file(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "shard#1").write_bytes(b"x")
    source, _ = from_folder(tmp_path / "m")
    with pytest.raises(InputError, match="'shard#1' ends with # and digits"):
        store_weights(source, open_store(str(tmp_path / "there")))
    assert list((tmp_path / "there").iterdir()) == []
    assert fault_of("a\ufffe") and fault_of("\uffff")
    assert "a letter and :" in open_store(str(tmp_path / "there")).fault_of("x/A:")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["moto", "azurite"])
def test_clouds_hold_all_names(
    kind: str, peer: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-test")
    numbers = itertools.count()
    with s3_server() if kind == "moto" else azure_server(peer, tmp_path / "azurite") as address:

        def fresh() -> ObjectStore:
            if kind == "moto":
                return open_store(f"s3://{BUCKET}/n{next(numbers)}", region=REGION, endpoint=address, retry_s=2)
            return open_store(f"{address}/n{next(numbers)}", retry_s=2)

        for name in ("x#1", *HARD):
            holds(fresh(), name)

        @settings(max_examples=150, deadline=None)
        @given(NAMES)
        def any_name(name: str) -> None:
            holds(fresh(), name)

        any_name()
