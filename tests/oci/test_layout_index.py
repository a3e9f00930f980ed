"""What index.json says, without files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout_index import (
    EMPTY,
    NO_LINKS,
    REF_NAME,
    IndexVersion,
    ManifestLinks,
    manifest_links,
    tag_of,
    with_manifest,
    without_tags,
)
from registry_pipelines.oci.manifests import Descriptor, Index, artifact_manifest, encode_json, manifest_bytes

TAGS = ("a", "b", "c")


def descriptor(number: int, tag: str = "", **annotations: str) -> Descriptor:
    named = {**annotations, **({REF_NAME: tag} if tag else {})}
    return Descriptor(
        media_type=media_types.OCI_MANIFEST, digest=Digest.of(str(number).encode()), size=1, annotations=named or None
    )


def index_of(*entries: Descriptor, **annotations: str) -> Index:
    return Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=entries, annotations=annotations or None)


def test_no_file_is_an_empty_index_and_anything_else_is_read_or_refused() -> None:
    assert IndexVersion.read((), b"") == IndexVersion((), EMPTY)
    entries = descriptor(1, "v1"), descriptor(2)
    version = IndexVersion.read((1,), encode_json(index_of(*entries)))
    assert (version.tags, list(version.listed.values())) == ({"v1": entries[0]}, list(entries))
    with pytest.raises(ContentError):
        IndexVersion.read((1,), b"{}")


def test_of_two_entries_with_one_tag_the_first_counts() -> None:
    first, second = descriptor(1, "v1"), descriptor(2, "v1")
    assert IndexVersion.of((), index_of(first, second)).tags == {"v1": first}


def test_a_manifest_that_names_itself_by_a_loop_is_known_once() -> None:
    one, two = descriptor(1), descriptor(2)
    links = {one.digest: ManifestLinks(children=(two,)), two.digest: ManifestLinks(children=(one,))}
    version = IndexVersion.of((), index_of(one))
    assert version.know(lambda entry: links[entry.digest]) == {one.digest: one, two.digest: two}


def test_what_an_artifact_says_about_its_subject() -> None:
    note = artifact_manifest(artifact_type="x/y", layers=(), subject=descriptor(1))
    links = manifest_links(note)
    assert links.subject == descriptor(1).digest
    assert links.referrer is not None and links.referrer.artifact_type == "x/y"
    assert manifest_links(manifest_bytes(EMPTY)) == NO_LINKS


@pytest.mark.parametrize("annotations", [{}, {"tool": "other"}])
def test_entries_are_added_at_the_end_as_if_all_were_written_anew(annotations: dict[str, str]) -> None:
    before = index_of(descriptor(1, "v1"), descriptor(2), **annotations)
    version = IndexVersion.of((), before, encode_json(before))
    index, raw = version.appended([descriptor(3, "v3"), descriptor(3, "v4")])
    assert raw == encode_json(index)
    assert [tag_of(entry) for entry in index.manifests] == ["v1", "", "v3", "v4"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.lists(st.sampled_from(TAGS), max_size=3)), max_size=10))
def test_no_manifest_is_lost_with_its_tags(steps: list[tuple[bool, int, list[str]]]) -> None:
    entries: list[Descriptor] = []
    tags: dict[str, Digest] = {}
    there: set[Digest] = set()
    for put, number, names in steps:
        if put:
            manifest = descriptor(number)
            entries = with_manifest(entries, manifest, names)
            assert with_manifest(entries, manifest, names) == entries
            there.add(manifest.digest)
            tags.update(dict.fromkeys(names, manifest.digest))
        else:
            entries = without_tags(entries, set(names))
            tags = {tag: digest for tag, digest in tags.items() if tag not in names}
        assert {entry.digest for entry in entries} == there
        assert {tag_of(entry): entry.digest for entry in entries if tag_of(entry)} == tags
        assert len(entries) == len({(entry.digest, tag_of(entry)) for entry in entries})


def test_other_annotations_stay_with_the_manifest() -> None:
    [kept] = without_tags([descriptor(1, "v1", note="kept")], {"v1"})
    assert kept.annotations == {"note": "kept"}
