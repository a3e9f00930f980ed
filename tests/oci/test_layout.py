"""Layout folders: what is on disk, who may write at once, and what other tools wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, DiskFull, ManifestInvalid, ReferenceInvalid
from registry_pipelines.oci import layout as layout_module
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors, write_file
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.layout_index import REF_NAME
from registry_pipelines.oci.manifests import (
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    artifact_manifest,
    encode_json,
    manifest_bytes,
)

CONFIG = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(b"{}"), size=2)


def image(text: str) -> ManifestBytes:
    manifest = Manifest(
        schema_version=2, media_type=media_types.OCI_MANIFEST, config=CONFIG, layers=(), annotations={"text": text}
    )
    return manifest_bytes(manifest)


def index_of(*children: ManifestBytes) -> ManifestBytes:
    entries = tuple(child.descriptor for child in children)
    return manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=entries))


def listed(folder: Path) -> list[tuple[str, str]]:
    """Tag and digest of every entry, as on disk."""
    document = json.loads((folder / "index.json").read_text())
    return [((entry.get("annotations") or {}).get(REF_NAME, ""), entry["digest"]) for entry in document["manifests"]]


def test_what_is_on_disk(tmp_path: Path) -> None:
    manifest = image("one")
    Layout(tmp_path / "a").put_manifest(manifest, ["v1"])
    assert json.loads((tmp_path / "a/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    document = json.loads((tmp_path / "a/index.json").read_text())
    assert (document["schemaVersion"], document["mediaType"]) == (2, media_types.OCI_INDEX)
    assert document["manifests"] == [
        {
            "mediaType": media_types.OCI_MANIFEST,
            "digest": manifest.digest,
            "size": len(manifest.raw),
            "annotations": {REF_NAME: "v1"},
        }
    ]
    assert (tmp_path / "a/blobs/sha256" / manifest.digest.hex).read_bytes() == manifest.raw
    assert list((tmp_path / "a/.uploads").iterdir()) == []


def test_files_may_be_read_by_others_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        Layout(tmp_path).put_manifest(image("one"), ["v1"])
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_reading_creates_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "a")
    assert not layout.exists()
    assert layout.tags() == {}
    assert layout.find("v1") is None
    assert layout.referrers(Digest.of(b"x")) == []
    assert not layout.remove_tag("v1")
    assert not layout.remove_manifest(Digest.of(b"x"))
    assert list(tmp_path.iterdir()) == []


def test_an_entry_per_tag_and_none_lost(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    one, two = image("one"), image("two")
    layout.put_manifest(one)
    assert listed(tmp_path) == [("", one.digest)]
    layout.put_manifest(one, ["a", "b", "a"])
    assert listed(tmp_path) == [("a", one.digest), ("b", one.digest)]
    layout.put_manifest(two, ["b"])
    assert listed(tmp_path) == [("a", one.digest), ("b", two.digest)]
    layout.put_manifest(two, ["a"])
    assert sorted(listed(tmp_path)) == sorted([("", one.digest), ("a", two.digest), ("b", two.digest)])
    layout.remove_tag("a")
    layout.remove_tag("b")
    assert sorted(listed(tmp_path)) == sorted([("", one.digest), ("", two.digest)])


def test_pushing_the_same_again_writes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.put_manifest(image("one"), ["v1"])
    before = (tmp_path / "index.json").stat()
    layout.put_manifest(image("one"), ["v1"])
    after = (tmp_path / "index.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("tag", ["", ".dot", "a/b", "x" * 129, "a b"])
def test_bad_tags_store_nothing(tmp_path: Path, tag: str) -> None:
    with pytest.raises(ReferenceInvalid):
        Layout(tmp_path / "a").put_manifest(image("one"), [tag])
    assert list(tmp_path.iterdir()) == []


def test_bad_manifests_store_nothing(tmp_path: Path) -> None:
    raw = b'{"schemaVersion": 2}'
    with pytest.raises(ManifestInvalid):
        Layout(tmp_path / "a").put_manifest(ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw)))
    assert list(tmp_path.iterdir()) == []


def test_two_objects_see_each_other(tmp_path: Path) -> None:
    first, second = Layout(tmp_path), Layout(tmp_path)
    first.put_manifest(image("one"), ["v1"])
    assert set(second.tags()) == {"v1"}
    second.put_manifest(image("two"), ["v1", "v2"])
    assert first.tags()["v1"].digest == image("two").digest
    second.remove_manifest(image("two").digest)
    assert first.find("v2") is None


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.oci.test_layout import image
from registry_pipelines.oci.layout import Layout
layout = Layout(Path(sys.argv[1]))
for number in range(20):
    layout.put_manifest(image(f"{sys.argv[2]} {number}"), [f"{sys.argv[2]}-{number}"])
"""


def test_many_processes_and_threads_lose_no_tag(tmp_path: Path) -> None:
    repository = str(Path(__file__).parents[2])
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), f"p{number}", repository]) for number in range(2)
    ]
    layout = Layout(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: layout.put_manifest(image(f"t{number}"), [f"t-{number}"]), range(40)))
    assert [child.wait() for child in children] == [0, 0]
    expected = {f"t-{number}" for number in range(40)} | {f"p{p}-{n}" for p in range(2) for n in range(20)}
    assert set(layout.tags()) == expected
    assert set(Layout(tmp_path).tags()) == expected


# What other tools write


def test_children_that_only_an_index_names_are_found(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    inner = index_of(image("deep"))
    outer = index_of(image("child"), inner)
    for manifest in (image("deep"), image("child"), inner):
        layout.put_blob(manifest.digest, manifest.raw)
    layout.put_manifest(outer, ["multi"])
    assert set(layout.manifests()) == {outer.digest}
    for manifest in (image("deep"), image("child"), inner):
        descriptor = layout.find(manifest.digest)
        assert descriptor is not None
        assert layout.read_manifest(descriptor) == manifest
    assert layout.find(Digest.of(b"other")) is None


def test_a_loop_of_indexes_ends(tmp_path: Path) -> None:
    """Digests forbid true loops; a damaged file may look like one."""
    layout = Layout(tmp_path)
    first = index_of(image("child"))
    layout.put_manifest(first, ["a"])
    raw = index_of(ManifestBytes(b"", media_types.OCI_INDEX, first.digest)).raw
    layout.blob_path(first.digest).write_bytes(raw)
    fresh = Layout(tmp_path)
    assert fresh.find(Digest.of(b"other")) is None
    with pytest.raises(ContentError):
        fresh.read_manifest(first.descriptor)


def test_foreign_annotations_and_names_are_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.put_manifest(image("one"), ["v1"])
    path = tmp_path / "index.json"
    document = json.loads(path.read_text())
    document["annotations"] = {"tool": "other"}
    document["manifests"][0]["annotations"]["io.containerd.image.name"] = "docker.io/library/a:v1"
    document["manifests"].append({**document["manifests"][0], "annotations": {REF_NAME: "registry/a:not-a-tag"}})
    path.write_text(json.dumps(document))
    layout.put_manifest(image("two"), ["v2"])
    after = json.loads(path.read_text())
    assert after["annotations"] == {"tool": "other"}
    assert after["manifests"][0]["annotations"]["io.containerd.image.name"] == "docker.io/library/a:v1"
    assert ("registry/a:not-a-tag", image("one").digest) in listed(tmp_path)


def test_referrers_also_of_children(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    child, note = image("child"), artifact_manifest(artifact_type="x/y", layers=(), subject=image("child").descriptor)
    for manifest in (child, note):
        layout.put_blob(manifest.digest, manifest.raw)
    layout.put_manifest(index_of(child, note), ["multi"])
    referrers = layout.referrers(child.digest)
    assert [(entry.digest, entry.artifact_type) for entry in referrers] == [(note.digest, "x/y")]
    layout.delete_blob(note.digest)
    assert layout.referrers(child.digest) == []


def test_what_is_added_to_a_known_layout_is_known(tmp_path: Path) -> None:
    """The usual push carries over what is known; it must agree with reading everything again."""
    layout = Layout(tmp_path)
    subject = image("subject")
    notes = [
        artifact_manifest(artifact_type=f"x/{n}", layers=(), subject=subject.descriptor, annotations={"n": str(n)})
        for n in range(4)
    ]
    layout.put_manifest(subject, ["v1"])
    sparse = index_of(image("never comes"), notes[3])
    for manifest in (notes[0], image("child"), index_of(image("child")), sparse, notes[1], notes[2], notes[3]):
        layout.put_manifest(manifest)
        fresh = Layout(tmp_path)
        assert layout.known_manifests() == fresh.known_manifests()
        assert layout.referrers(subject.digest) == fresh.referrers(subject.digest)
        assert (tmp_path / "index.json").read_bytes() == encode_json(fresh._load().index)
    assert {entry.digest for entry in layout.referrers(subject.digest)} == {note.digest for note in notes}
    layout.remove_manifest(notes[1].digest)
    assert len(layout.referrers(subject.digest)) == 3


@pytest.mark.parametrize("text", ["{", "[]", '{"manifests": 1}', '{"schemaVersion":2,"manifests":[{"digest":"x"}]}'])
def test_an_index_json_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ContentError):
        Layout(tmp_path).tags()


def test_a_huge_index_json_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Layout(tmp_path).put_manifest(image("one"), ["v1"])
    monkeypatch.setattr(layout_module, "MAX_INDEX_BYTES", 20)
    with pytest.raises(ContentError, match="larger"):
        Layout(tmp_path).tags()


def test_a_damaged_manifest_is_an_error_and_a_missing_one_is_not_found(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.put_manifest(image("one"), ["v1"])
    descriptor = layout.find("v1")
    assert descriptor is not None
    layout.blob_path(descriptor.digest).write_bytes(b"damaged")
    with pytest.raises(ContentError):
        layout.read_manifest(descriptor)
    layout.delete_blob(descriptor.digest)
    assert layout.find("v1") is None
    assert layout.read_manifest(descriptor) is None


# Files


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_file(target, b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "folder", b"new")
    write_file(target, b"new")
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_only_a_full_disk_is_called_full(tmp_path: Path) -> None:
    with pytest.raises(DiskFull) as caught, disk_errors(tmp_path):
        raise OSError(28, "No space left on device")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "missing").read_bytes()


# Any order of changes


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "untag", "remove"]),
            st.integers(0, 3),
            st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
        ),
        max_size=12,
    )
)
def test_any_order_of_changes_agrees_with_a_simple_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, list[str]]]
) -> None:
    folder = tmp_path_factory.mktemp("layout")
    layout = Layout(folder)
    tags: dict[str, Digest] = {}
    manifests: set[Digest] = set()
    for action, number, names in steps:
        manifest = image(str(number))
        if action == "put":
            layout.put_manifest(manifest, names)
            manifests.add(manifest.digest)
            tags.update(dict.fromkeys(names, manifest.digest))
        elif action == "untag":
            for name in names:
                assert layout.remove_tag(name) == (tags.pop(name, None) is not None)
        else:
            assert layout.remove_manifest(manifest.digest) == (manifest.digest in manifests)
            manifests.discard(manifest.digest)
            tags = {tag: digest for tag, digest in tags.items() if digest != manifest.digest}
    for view in (layout, Layout(folder)):
        assert {tag: entry.digest for tag, entry in view.tags().items()} == tags
        assert set(view.manifests()) == manifests
    if layout.exists():
        entries = listed(folder)
        assert len(entries) == len(set(entries))
        assert {digest for tag, digest in entries if not tag} == manifests - set(tags.values())
