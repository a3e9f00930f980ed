"""Manifests, indexes and configs: strict, bounded, byte-keeping."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, ManifestInvalid, ManifestTooLarge
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    EMPTY,
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    artifact_manifest,
    descriptors,
    encode_json,
    infer_media_type,
    manifest_bytes,
    read_image_config,
    read_manifest,
    select_platform,
)
from registry_pipelines.oci.platforms import Platform

DIGESTS = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
TEXT = st.text(max_size=12)
PLATFORMS = st.builds(
    Platform, os=st.just("linux"), architecture=st.sampled_from(["amd64", "arm64"]), variant=st.sampled_from(["", "v8"])
)
DESCRIPTORS = st.builds(
    Descriptor,
    media_type=st.sampled_from([media_types.OCI_LAYER_GZIP, media_types.OCI_MANIFEST]),
    digest=DIGESTS,
    size=st.integers(0, 2**62),
    annotations=st.one_of(st.none(), st.dictionaries(TEXT, TEXT, max_size=2)),
    platform=st.one_of(st.none(), PLATFORMS),
)
MANIFESTS = st.builds(
    Manifest,
    schema_version=st.just(2),
    media_type=st.just(media_types.OCI_MANIFEST),
    config=DESCRIPTORS,
    layers=st.lists(DESCRIPTORS, max_size=3).map(tuple),
    subject=st.one_of(st.none(), DESCRIPTORS),
    artifact_type=st.sampled_from(["", "text/x"]),
)
INDEXES = st.builds(
    Index,
    schema_version=st.just(2),
    media_type=st.just(media_types.OCI_INDEX),
    manifests=st.lists(DESCRIPTORS, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(st.one_of(MANIFESTS, INDEXES))
def test_round_trip_keeps_bytes_and_digest(content: Manifest | Index) -> None:
    made = manifest_bytes(content)
    assert made.digest == Digest.of(made.raw) and made.content() == content
    assert encode_json(read_manifest(made.raw)) == made.raw
    assert made.descriptor == Descriptor(media_type=content.media_type, digest=made.digest, size=len(made.raw))
    assert infer_media_type(made.raw) == content.media_type
    assert len(descriptors(content)) == (
        len(content.manifests) if isinstance(content, Index) else len(content.layers) + 1
    )


LAYER = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=Digest.of(b"l", "sha512"), size=1)
CONFIG = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(b"c"), size=1)
GOOD = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=CONFIG, layers=(LAYER,)))


def test_every_truncation_is_our_error() -> None:
    for length in range(len(GOOD.raw)):
        with pytest.raises(ManifestInvalid):
            read_manifest(GOOD.raw[:length])


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60), st.integers(0, len(GOOD.raw)))
def test_any_bytes_are_read_or_our_error(noise: bytes, at: int) -> None:
    for raw in (noise, GOOD.raw[:at] + noise + GOOD.raw[at:], GOOD.raw[:at] + noise):
        try:
            content = read_manifest(raw)
        except ContentError:
            continue
        assert isinstance(content, (Manifest, Index))


def document(**changes: object) -> bytes:
    merged = {**msgspec.json.decode(GOOD.raw), **changes}
    return msgspec.json.encode({key: value for key, value in merged.items() if value is not ...})


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (document(manifests=[]), "ambiguous"),
        (document(layers=..., manifests=[]), "ambiguous"),
        (document(manifests=None), "ambiguous"),
        (document(schemaVersion=1), "schema 1"),
        (document(schemaVersion=3), "schemaVersion"),
        (document(schemaVersion="2"), "schemaVersion"),
        (document(fsLayers=[]), "schema 1"),
        (document(config=...), "config"),
        (document(layers={}), "layers"),
        (document(mediaType="text/plain"), "not a manifest"),
        (document(mediaType=media_types.OCI_INDEX), "ambiguous"),
        (document(mediaType=media_types.OCI_INDEX, layers=None, config=...), "ambiguous"),
        (document(layers=[None]), "layers"),
        (document(Layers=[]), "Layers"),
        (document(layers=..., Layers=[]), "Layers"),
        (document(**{"layer\u017f": []}), "layer"),
        (document(subject={"mediaType": "x", "digest": str(CONFIG.digest), "size": 1, "Digest": "y"}), "Digest"),
        (GOOD.raw.replace(b'"layers":', b'"layers":[],"layers":'), "twice"),
        (GOOD.raw.replace(b'"layers":', b'"\\u006cayers":[],"layers":'), "twice"),
        (GOOD.raw.replace(b'"digest":', b'"digest":"sha256:%s","digest":' % (b"a" * 64), 1), "twice"),
        (document(config={"mediaType": "x", "digest": "sha256:0", "size": 1}), "digest"),
        (document(config={"mediaType": "x", "digest": str(CONFIG.digest), "size": -1}), "negative"),
        (document(config={"mediaType": "x", "digest": str(CONFIG.digest), "size": 1.5}), "size"),
        (document(subject="x"), "subject"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "schemaVersion"),
        (b"\xff\xfe", "not valid"),
        (b'{"schemaVersion":2,"manifests":' + b"[" * 5000, "not valid"),
    ],
)
def test_bad_documents_name_the_field(raw: bytes, text: str) -> None:
    with pytest.raises(ManifestInvalid, match=text):
        read_manifest(raw, where="reg/app")


@pytest.mark.parametrize(
    "raw",
    [
        document(layers=None),
        document(layers=...),
        document(layers=[], subject=None, annotations=None, artifactType=None),
        document(
            layers=[],
            config={**msgspec.json.decode(encode_json(CONFIG)), "urls": None, "annotations": None, "platform": None},
        ),
        document(layers=[], mediaType=None),
        document(layers=[], mediaType=...),
        document(
            layers=[],
            config={**msgspec.json.decode(encode_json(CONFIG)), "platform": {"os": None, "os.features": None}},
        ),
        document(layers=[], annotations={"Size": "12 MB", "size": "12 MB", "a": None}),
    ],
)
def test_null_and_absent_lists_are_empty(raw: bytes) -> None:
    """As Go reads and writes them: containerd, crane, oras and skopeo take such images."""
    manifest = read_manifest(raw)
    assert isinstance(manifest, Manifest) and manifest.layers == () and manifest.config.digest == CONFIG.digest
    assert manifest.subject is None and not manifest.artifact_type


@pytest.mark.parametrize("manifests", [None, ..., []])
def test_an_index_without_entries_is_empty(manifests: object) -> None:
    raw = document(mediaType=media_types.OCI_INDEX, config=..., layers=..., manifests=manifests)
    index = read_manifest(raw)
    assert isinstance(index, Index) and index.manifests == ()


def test_platforms_of_others_are_read() -> None:
    """Windows' version and features, fields nobody knows, and a platform that says nothing."""
    row = {"mediaType": media_types.OCI_MANIFEST, "digest": str(CONFIG.digest), "size": 2}
    platforms: list[object] = [
        None,
        {},
        {"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["win32k"], "features": []},
        {"os": "linux", "architecture": "arm64", "variant": "", "more": {"a": 1}},
        {"os": "linux", "architecture": "arm64", "variant": None},
    ]
    rows = [{**row, "platform": platform} for platform in platforms]
    index = read_manifest(document(mediaType=media_types.OCI_INDEX, config=..., layers=..., manifests=rows))
    assert isinstance(index, Index)
    named = [str(child.platform) if child.platform else "" for child in index.manifests]
    assert named == ["", "unnamed", "windows/amd64", "linux/arm64", "linux/arm64"]


@settings(max_examples=100, deadline=None)
@given(
    content=st.one_of(MANIFESTS, INDEXES), nulls=st.sets(st.sampled_from(["annotations", "subject", "artifactType"]))
)
def test_null_changes_nothing_of_what_is_read(content: Manifest | Index, nulls: set[str]) -> None:
    plain = msgspec.json.decode(encode_json(content))
    raw = msgspec.json.encode({**dict.fromkeys(nulls), **plain})
    assert read_manifest(raw) == content


def test_a_manifest_of_five_mebibytes_is_too_large() -> None:
    raw = document(annotations={"x": "y" * (5 * 1024 * 1024)})
    with pytest.raises(ManifestTooLarge, match=str(MAX_MANIFEST_BYTES)):
        read_manifest(raw)
    filler = "y" * (MAX_MANIFEST_BYTES - len(document(annotations={"x": ""})))
    assert isinstance(read_manifest(document(annotations={"x": filler})), Manifest), "exactly 4 MiB is read"


def test_the_content_type_must_agree() -> None:
    with pytest.raises(ManifestInvalid, match="the registry said"):
        read_manifest(GOOD.raw, media_type=media_types.OCI_INDEX)
    with pytest.raises(ManifestInvalid, match="the registry said"):
        ManifestBytes(GOOD.raw, media_types.DOCKER_MANIFEST, GOOD.digest).content()
    assert isinstance(read_manifest(document(mediaType=...), media_type=media_types.OCI_MANIFEST), Manifest)
    index = b'{"schemaVersion":2,"manifests":[]}'
    assert isinstance(read_manifest(index), Index) and infer_media_type(index) == media_types.OCI_INDEX


def test_images_and_artifacts() -> None:
    image = read_manifest(GOOD.raw)
    assert isinstance(image, Manifest) and image.is_image and image.kind == media_types.OCI_CONFIG
    made = artifact_manifest(artifact_type="text/x", layers=[LAYER], subject=GOOD.descriptor, annotations={"a": "b"})
    artifact = made.content()
    assert isinstance(artifact, Manifest) and not artifact.is_image and artifact.kind == "text/x"
    assert artifact.config == EMPTY and artifact.subject == GOOD.descriptor
    named = Descriptor(
        **{
            **{name: getattr(GOOD.descriptor, name) for name in ("media_type", "digest", "size")},
            "annotations": {"x": "y"},
        }
    )
    assert artifact_manifest(artifact_type="text/x", layers=[LAYER], subject=named, annotations={"a": "b"}) == made


def test_docker_schema_2_is_read() -> None:
    raw = document(mediaType=media_types.DOCKER_MANIFEST)
    content = read_manifest(raw, media_type=media_types.DOCKER_MANIFEST)
    assert isinstance(content, Manifest) and content.layers == (LAYER,)


@pytest.mark.parametrize("field", ["architecture", "os", "variant", "created", "config", "rootfs", "history"])
def test_a_null_in_a_config_is_absent(field: str) -> None:
    read = read_image_config(msgspec.json.encode({"architecture": "amd64", "os": "linux", field: None}))
    assert not getattr(read, field) and read.diff_ids == ()


def test_configs() -> None:
    raw = msgspec.json.encode(
        {"os": "linux", "architecture": "arm64", "variant": "v8", "rootfs": {"diff_ids": [LAYER.digest]}}, enc_hook=str
    )
    config = read_image_config(raw)
    assert config.diff_ids == (LAYER.digest,) and str(config.platform) == "linux/arm64/v8"
    assert read_image_config(b"{}").diff_ids == ()
    for bad in (b"", b"[]", b'{"rootfs":3}'):
        with pytest.raises(ManifestInvalid):
            read_image_config(bad)
    for ids in (["x"], [3], [None]):
        with pytest.raises(ManifestInvalid, match="diff_ids"):
            _ = read_image_config(msgspec.json.encode({"rootfs": {"diff_ids": ids}})).diff_ids
    with pytest.raises(ManifestTooLarge):
        read_image_config(b" " * (MAX_CONFIG_BYTES + 1))


def test_selecting_a_platform() -> None:
    children = tuple(
        Descriptor(
            media_type=media_types.OCI_MANIFEST, digest=Digest.of(text.encode()), size=1, platform=Platform.parse(text)
        )
        for text in ("linux/amd64", "linux/arm/v7")
    )
    index = Index(schema_version=2, manifests=children)
    assert select_platform(index, Platform.parse("linux/arm")) == children[1]
    with pytest.raises(ManifestInvalid, match="linux/amd64, linux/arm/v7"):
        select_platform(index, Platform.parse("linux/s390x"))


def test_a_plain_entry_goes_before_a_variant() -> None:
    """A base for linux/amd64 must run on every amd64 machine, wherever it stands."""
    named = [Platform.parse(text) for text in ("linux/amd64/v3", "linux/amd64", "linux/amd64")]
    children = tuple(
        Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"%d" % number), size=1, platform=platform)
        for number, platform in enumerate(named)
    )
    index = Index(schema_version=2, manifests=children)
    assert select_platform(index, Platform.parse("linux/amd64")) == children[1]
    assert select_platform(index, Platform.parse("linux/amd64/v3")) == children[0]
    assert select_platform(Index(schema_version=2, manifests=children[:1]), named[1]) == children[0]
