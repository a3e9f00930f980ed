"""The value itself: columns, files, several registries in one, and any registry by what tags lead to."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, LocalError, StateTooNew
from registry_pipelines.inventory.from_survey import SurveyReader
from registry_pipelines.inventory.reader import read_registry
from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.schema import COLUMNS, METADATA_KEY, SCHEMA
from registry_pipelines.inventory.value import Inventory, Source, Unread, join, read
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.lifecycle.images import NOW, Image, digest_of, inventory_of

SOURCE = Source(registry="ecr", kind="ecr", answered=NOW, complete=False, unread=(Unread("team/x", "NotFound: gone"),))
IMAGES = [
    Image("a", ("v1", "latest"), 3, pulled=1, children=()),
    Image("b", (), None, children=("a", "c"), repository="other"),
]


def of(images: list[Image]) -> Inventory:
    return Inventory(inventory_of(images).frame, (SOURCE,))


def test_parquet_brings_back_the_rows_and_what_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    written = of(IMAGES)
    written.write(path)
    found = read(path)
    assert found.table().to_pylist() == written.table().to_pylist() and found.sources == (SOURCE,)
    assert not found.complete and list(found.frame.columns) == list(COLUMNS)
    assert list(tmp_path.iterdir()) == [path]
    plain = pd.read_parquet(path)  # by who knows nothing of us
    assert list(plain["repository"]) == ["app", "other"] and list(plain["tags"][0]) == ["v1", "latest"]


def test_csv_and_json_are_for_others(tmp_path: Path) -> None:
    of(IMAGES).write(tmp_path / "images.csv")
    first, second = csv.DictReader((tmp_path / "images.csv").read_text().splitlines())
    assert (first["tags"], second["children"], second["pushed"]) == (
        "v1 latest",
        f"{digest_of('a')} {digest_of('c')}",
        "",
    )
    of(IMAGES).write(tmp_path / "images.json")
    *rows, sources = map(json.loads, (tmp_path / "images.json").read_text().splitlines())
    assert [row["digest"] for row in rows] == [digest_of("a"), digest_of("b")]
    assert sources["sources"][0]["unread"] == [{"what": "team/x", "problem": "NotFound: gone"}]


def test_what_is_no_inventory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for content, said in ((b"", "not a Parquet file"), (b"PAR1" + b"\0" * 40, "not a Parquet file")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=said):
            read(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InputError, match="no inventory"):
        read(path)
    table = of(IMAGES).table()
    metadata = {METADATA_KEY: b'{"version": 1, "sources": []}'}
    pq.write_table(table.drop(["status"]).replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match="lacks columns: status"):
        read(path)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: b"{"}), path)
    with pytest.raises(InputError, match="metadata cannot be read"):
        read(path)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: b'{"version": 2}'}), path)
    with pytest.raises(StateTooNew):
        read(path)
    with pytest.raises(InputError, match="no form of an inventory"):
        of(IMAGES).write(tmp_path / "x.xlsx")
    with pytest.raises(LocalError):
        of(IMAGES).write(tmp_path / "none" / "x.csv")


def test_registries_join_to_one_value() -> None:
    one, other = of(IMAGES), inventory_of([Image("z", repository="third")], "gar")
    both = join([one, other])
    assert list(both.frame["registry"]) == ["ecr", "ecr", "gar"] and both.sources == one.sources
    assert both.only(both.frame["registry"] == "gar").table().to_pylist() == other.table().to_pylist()
    assert len(join([]).frame) == 0 and join([]).complete


ROWS = st.lists(
    st.builds(
        Row,
        st.sampled_from(["ecr", "gar"]),
        st.text(min_size=1, max_size=9),
        st.text(max_size=9),
        st.just(NOW),
        tags=st.lists(st.text(max_size=4), max_size=3),
        size_bytes=st.none() | st.integers(0, 2**62),
        layers=st.none() | st.integers(0, 1000),
        subject=st.none() | st.text(max_size=5),
        children=st.none() | st.lists(st.text(max_size=3), max_size=2),
        media_type=st.none() | st.text(max_size=4),
        artifact_type=st.none() | st.text(max_size=4),
        created=st.none() | st.just(NOW),
        pushed=st.none() | st.just(NOW),
        pulled=st.none() | st.just(NOW),
        archived=st.none(),
        activated=st.none() | st.just(NOW),
        status=st.none() | st.sampled_from(["ACTIVE", "ARCHIVED"]),
        parts=st.none(),
    ),
    max_size=8,
)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_any_rows_come_back_as_they_were(rows: list[Row]) -> None:
    made = Rows()
    for row in rows:
        made.add(row)
    found = made.inventory([]).table().to_pylist()
    assert [Row(**one) for one in found] == rows
    assert [field.name for field in SCHEMA] == list(COLUMNS)


def test_a_folder_is_read_by_what_its_tags_lead_to(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    place = Place(registry, "team/app")
    layer = push_blob(place, b"layer", media_type=media_types.OCI_LAYER_GZIP)
    config = push_blob(place, b'{"created": "2026-01-02T03:04:05Z"}', media_type=media_types.OCI_CONFIG)
    image = manifest_bytes(Manifest(schema_version=2, config=config, layers=(layer,)))
    registry.put_manifest("team/app", image)
    top = manifest_bytes(Index(schema_version=2, manifests=(image.descriptor,)))
    registry.put_manifest("team/app", top, tag="v1")
    push_blob(Place(registry, "other"), b"x", media_type="x")
    found = read_registry("here", SurveyReader("here", "layout", registry), repositories=["team/*", "absent"])
    by_digest = {row["digest"]: row for row in found.table().to_pylist()}
    leaf, index = by_digest[image.digest], by_digest[top.digest]
    assert (leaf["layers"], leaf["size_bytes"]) == (1, len(image.raw) + layer.size + config.size)
    assert (index["tags"], index["children"], index["layers"]) == (["v1"], [image.digest], None)
    assert str(leaf["created"]) == "2026-01-02 03:04:05+00:00" and leaf["pushed"] is None
    assert isinstance(found.sources[0].notes[0], str) and found.complete
    assert isinstance(layer, Descriptor)


def test_a_repository_that_is_damaged_is_told(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    place = Place(registry, "app")
    config = push_blob(place, b"{}", media_type=media_types.OCI_CONFIG)
    registry.put_manifest("app", manifest_bytes(Manifest(schema_version=2, config=config, layers=())), tag="v1")
    [blob] = [
        each for each in (tmp_path / "app" / "blobs" / "sha256").iterdir() if b"schemaVersion" in each.read_bytes()
    ]
    blob.write_bytes(b"{")
    found = read_registry("here", SurveyReader("here", "layout", registry))
    assert not found.complete and found.sources[0].unread[0].what == "app" and len(found.frame) == 0
