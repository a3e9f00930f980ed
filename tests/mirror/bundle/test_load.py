"""The far side: whatever happens to media, the private registry ends as if nothing had happened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.mirror.bundle.media import open_media
from registry_pipelines.mirror.bundle.receipt import read_receipt
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import NOW, far_layout, publish, whole
from tests.mirror.bundle.written import Line

MakeKey = Callable[[str], Key]


@pytest.fixture
def near(tmp_path: Path) -> LayoutRegistry:
    return LayoutRegistry(tmp_path / "near")


@pytest.fixture
def line(make_key: MakeKey) -> Line:
    return Line(make_key("near").signer)


def test_a_full_bundle_makes_both_sides_equal_and_again_changes_nothing(
    near: LayoutRegistry, line: Line, tmp_path: Path
) -> None:
    line.write(tmp_path / "disk", publish(near, 1))
    far = far_layout(tmp_path / "far")
    (load,) = far.load(tmp_path / "disk")
    assert load.ok and not load.again and not load.notes
    assert whole(far.registry) == whole(near)
    (again,) = far.load(tmp_path / "disk")
    assert again.ok and again.again and not any(each.result.changed for each in again.images)


def test_the_next_bundle_leaves_out_what_the_receipt_confirms(
    near: LayoutRegistry, line: Line, make_key: MakeKey, tmp_path: Path
) -> None:
    first = line.write(tmp_path / "one", publish(near, 1))
    far = far_layout(tmp_path / "far")
    far.load(tmp_path / "one")
    receipt = read_receipt(far.receipt(make_key("far").signer).raw, verifier=make_key("far").verifier)
    assert receipt.receipt.sequence == 1 and receipt.receipt.loaded[0].number == 1
    second = line.write(tmp_path / "two", publish(near, 2), receipt=receipt)
    assert second.needs and len(second.blobs) < len(first.blobs)
    (load,) = far.load(tmp_path / "two")
    assert load.ok, [each.error for each in load.images]
    assert whole(far.registry) == whole(near)
    assert sum(each.result.bytes_moved for each in load.images) < first.stream_size / 4
    assert far.receipt(make_key("far").signer).receipt.sequence == 2


def test_a_bundle_whose_base_is_missing_names_it_and_writes_nothing(
    near: LayoutRegistry, line: Line, make_key: MakeKey, tmp_path: Path
) -> None:
    line.write(tmp_path / "one", publish(near, 1))
    far, other = far_layout(tmp_path / "far"), far_layout(tmp_path / "other")
    far.load(tmp_path / "one")
    line.write(tmp_path / "two", publish(near, 2), receipt=far.receipt(make_key("far").signer))
    with pytest.raises(ClosureIncomplete, match="upstreams-0001 brought them, and was not loaded here") as caught:
        other.load(tmp_path / "two")
    assert "receipt of another far side" in caught.value.what
    assert "Load upstreams-0001 first" in caught.value.do and "nothing was written" in caught.value.do
    assert list(other.registry.repositories()) == []
    assert [each.ok for each in other.load(tmp_path / "two", tmp_path / "one")] == [True, True]
    assert whole(other.registry) == whole(near)
    shutil.rmtree(tmp_path / "far" / "registry")  # the content goes, what was loaded is known
    with pytest.raises(ClosureIncomplete, match="upstreams-0001 brought them, and they are gone from there since"):
        far.load(tmp_path / "two")


@pytest.mark.parametrize("order", [(3, 2, 1), (1, 3, 1, 2, 2)])
def test_any_order_of_bundles_ends_the_same(
    near: LayoutRegistry, line: Line, order: tuple[int, ...], tmp_path: Path
) -> None:
    for version in (1, 2, 3):
        line.write(tmp_path / str(version), publish(near, version))
    far = far_layout(tmp_path / "far")
    for version in order:
        (load,) = far.load(tmp_path / str(version))
        assert load.ok
    assert whole(far.registry) == whole(near)
    stored = {path.name for path in (tmp_path / "far" / "registry").rglob("blobs/*/*")}
    assert stored == {path.name for path in (tmp_path / "near").rglob("blobs/*/*")}


def test_an_older_bundle_says_what_it_leaves_and_moves_back_only_when_told(
    near: LayoutRegistry, line: Line, tmp_path: Path
) -> None:
    place = Place(near, "library/app")
    for version in (1, 2):
        line.write(tmp_path / str(version), publish(near, version))
    far = far_layout(tmp_path / "far")
    far.load(tmp_path / "2")
    latest = near.resolve(place.repository, "latest").digest
    (older,) = far.load(tmp_path / "1")
    assert older.ok and "older than number 2" in older.notes[0]
    assert {(each.repository, each.tag, each.by) for each in older.kept} >= {("library/app", "latest", "number 2")}
    assert far.registry.resolve("library/app", "latest").digest == latest
    far.load(tmp_path / "1", move_back=True)
    assert far.registry.resolve("library/app", "latest").digest != latest
    far.load(tmp_path / "2")
    assert whole(far.registry) == whole(near)


def test_two_lines_are_ordered_by_receipts_then_by_time_and_never_by_the_future(
    near: LayoutRegistry, line: Line, make_key: MakeKey, tmp_path: Path
) -> None:
    other = Line(make_key("near").signer, line="b" * 32)
    line.write(tmp_path / "a1", publish(near, 1), made_at="2026-11-29T10:00:00+00:00")
    far = far_layout(tmp_path / "far")
    far.load(tmp_path / "a1")
    latest = far.registry.resolve("library/app", "latest").digest
    other.write(tmp_path / "b1", publish(near, 2), made_at="2030-01-01T00:00:00+00:00")
    (future,) = far.load(tmp_path / "b1")
    assert "in the future" in future.notes[0] and future.kept[0].by == "number 1 of the line aaaaaaaa"
    assert far.registry.resolve("library/app", "latest").digest == latest
    receipt = far.receipt(make_key("far").signer)
    other.write(tmp_path / "b2", publish(near, 3), receipt=receipt, made_at="2020-01-01T00:00:00+00:00")
    (behind,) = far.load(tmp_path / "b2")
    assert behind.ok and not behind.kept
    assert far.registry.resolve("library/app", "latest").digest == near.resolve("library/app", "latest").digest
    line.write(tmp_path / "a2", publish(near, 4), made_at="2026-11-29T11:00:00+00:00")
    assert far.load(tmp_path / "a2")[0].kept  # it knows no receipt, so it is older than what builds on one


def test_parts_are_found_by_content_on_any_medium(near: LayoutRegistry, line: Line, tmp_path: Path) -> None:
    bundle = line.write(tmp_path / "disk", publish(near, 1), part_size=5_000)
    names = [part.name for part in bundle.parts]
    assert len(names) > 4
    (tmp_path / "second" / "deep").mkdir(parents=True)
    shutil.move(tmp_path / "disk" / names[0], tmp_path / "second" / "deep" / "holiday.jpg")
    shutil.move(tmp_path / "disk" / names[1], tmp_path / "second" / names[1])
    swapped = [tmp_path / "disk" / names[2], tmp_path / "disk" / names[3]]
    contents = [path.read_bytes() for path in swapped]
    for path, content in zip(swapped, reversed(contents), strict=True):
        path.write_bytes(content)
    shutil.copy(tmp_path / "disk" / names[-1], tmp_path / "second" / names[-1])
    (tmp_path / "disk" / names[-1]).write_bytes(b"\1" * bundle.parts[-1].size)
    far = far_layout(tmp_path / "far")
    (found,) = far.look(tmp_path / "disk", tmp_path / "second")
    assert found.whole and [part.state for part in found.parts[:4]] == ["renamed", "whole", "renamed", "renamed"]
    assert found.parts[-1].state == "whole" and found.parts[-1].path == tmp_path / "second" / names[-1]
    assert far.load(tmp_path / "disk", tmp_path / "second")[0].ok
    assert whole(far.registry) == whole(near)


def test_what_is_missing_truncated_or_damaged_is_named(near: LayoutRegistry, line: Line, tmp_path: Path) -> None:
    bundle = line.write(tmp_path / "disk", publish(near, 1), part_size=5_000)
    paths = [tmp_path / "disk" / part.name for part in bundle.parts]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    damaged = bytearray(paths[2].read_bytes())
    damaged[77] ^= 1
    paths[2].write_bytes(damaged)
    (found,) = far_layout(tmp_path / "far").look(tmp_path / "disk")
    assert [part.state for part in found.parts[:4]] == ["missing", "damaged", "damaged", "whole"]
    assert found.lacking == [1, 2, 3] and not found.whole
    assert "has 4999 of 5000 bytes" in found.parts[1].why and "SHA-256 is another" in found.parts[2].why


def test_a_document_on_two_media_counts_once_and_a_damaged_one_hides_no_other(
    near: LayoutRegistry, line: Line, tmp_path: Path
) -> None:
    bundle = line.write(tmp_path / "disk", publish(near, 1))
    (tmp_path / "second").mkdir()
    document = tmp_path / "disk" / f"{bundle.name}.bundle.json"
    shutil.copy(document, tmp_path / "second" / "renamed.bundle.json")
    (tmp_path / "second" / "upstreams-0009.bundle.json").write_bytes(document.read_bytes()[:-20])
    media = open_media([tmp_path / "disk", tmp_path / "second"])
    assert [each.bundle.number for each in media.documents] == [1]
    assert [error.where for error in media.unreadable] == [str(tmp_path / "second" / "upstreams-0009.bundle.json")]


def test_a_blob_that_the_registry_lost_since_the_last_load_comes_again(
    near: LayoutRegistry, line: Line, tmp_path: Path
) -> None:
    line.write(tmp_path / "disk", publish(near, 1))
    far = far_layout(tmp_path / "far")
    far.load(tmp_path / "disk")
    content = near.get_manifest("library/tool", "1").content()
    assert isinstance(content, Manifest)
    far.registry.delete_blob("library/tool", content.layers[0].digest)
    (load,) = far.load(tmp_path / "disk")
    assert load.ok and load.changed and whole(far.registry) == whole(near)


def test_a_receipt_tells_only_what_is_there_now(
    near: LayoutRegistry, line: Line, make_key: MakeKey, tmp_path: Path
) -> None:
    line.write(tmp_path / "disk", publish(near, 1))
    far = far_layout(tmp_path / "far")
    far.load(tmp_path / "disk")
    before = far.receipt(make_key("far").signer).receipt
    assert set(before.repositories["library/app"].tags) == {"latest", "1.0"}
    gone = before.repositories["library/tool"].blobs[0]
    far.registry.delete_blob("library/tool", type(near.resolve("library/tool", "1").digest)(gone))
    far.registry.delete_tag("library/app", "1.0")
    after = far.receipt(make_key("far").signer).receipt
    assert gone not in after.repositories["library/tool"].blobs
    assert set(after.repositories["library/app"].tags) == {"latest"}
    tool = far.registry.resolve("library/tool", "1").digest
    far.registry.delete_manifest("library/tool", tool)
    last = far.receipt(make_key("far").signer).receipt.repositories["library/tool"]
    signature = far.registry.resolve("library/tool", f"{tool.fallback_tag}.sig").digest
    assert last.manifests == (signature,) and set(last.tags) == {f"{tool.fallback_tag}.sig"}
    assert len(last.blobs) == 2  # what nothing names is there still, and not for long
    assert after.far == before.far and after.sequence == before.sequence + 1 and after.made_at == NOW.isoformat()
