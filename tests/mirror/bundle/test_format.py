"""What a bundle's document says is held together before anything is cut or found by it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid, RegistryPipelinesError, SignatureInvalid, StateTooNew
from registry_pipelines.evidence.dsse import sign_envelope, write_envelope
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.mirror.bundle.format import (
    SCHEMA,
    Base,
    Bundle,
    BundleBlob,
    BundleImage,
    Need,
    Part,
    part_name,
    read_bundle,
    read_document_name,
    seal,
    verify_bundle,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.media_types import OCI_MANIFEST
from tests.evidence.parts import Key

MakeKey = Callable[[str], Key]
TOP, LAYER = Digest.of(b"top"), Digest.of(b"layer")
RECEIPT = Base(far="f" * 32, sequence=3, sha256="a" * 64)


def bundle(**changed: object) -> Bundle:
    """Of one image in two parts."""
    small = Bundle(
        schema=SCHEMA,
        mirror="foreign",
        line="0" * 32,
        number=7,
        made_at="2026-11-29T10:00:00+00:00",
        stream_size=3000,
        part_size=2000,
        parts=tuple(
            Part(name=part_name("foreign", 7, number), size=size, sha256="b" * 64)
            for number, size in ((1, 2000), (2, 1000))
        ),
        blobs=(
            BundleBlob(digest=TOP, size=100, offset=512, media_type=OCI_MANIFEST),
            BundleBlob(digest=LAYER, size=1500, offset=1024),
        ),
        images=(
            BundleImage(
                repository="library/python",
                digest=TOP,
                media_type=OCI_MANIFEST,
                size=100,
                tags=("3.12",),
                source="docker.io/library/python",
                manifests=(TOP,),
            ),
        ),
    )
    return msgspec.structs.replace(small, **changed)


def image(**changed: object) -> BundleImage:
    return msgspec.structs.replace(bundle().images[0], **changed)


def test_what_is_sealed_is_read_and_believed_of_the_promoter(make_key: MakeKey) -> None:
    raw = seal(bundle(), make_key("promoter").signer)
    sealed = read_bundle(raw)
    assert sealed.bundle == bundle() and sealed.bundle.name == "foreign-0007"
    assert [blob.digest for blob in sealed.bundle.manifests] == [TOP]
    promoter = load_verifier([], {"promoter": [make_key("promoter").public], "scanner": [make_key("scanner").public]})
    assert verify_bundle(sealed, promoter) == make_key("promoter").signer.key_id
    assert verify_bundle(sealed, load_verifier([make_key("promoter").public])) == make_key("promoter").signer.key_id
    with pytest.raises(SignatureInvalid, match="not as promoter"):
        verify_bundle(read_bundle(seal(bundle(), make_key("scanner").signer)), promoter)
    with pytest.raises(SignatureInvalid, match="trusted key"):
        verify_bundle(read_bundle(seal(bundle(), make_key("other").signer)), promoter)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mirror": "../up"}, "is none"),
        ({"line": "x"}, "32 hex digits"),
        ({"number": 0}, "its number is 0"),
        ({"number": 10**9}, "its number is 1000000000"),
        ({"part_size": 0}, "no parts"),
        ({"stream_size": 5000}, "3 parts of 2000, and 2 listed"),
        ({"stream_size": 3001}, "part 2 has 1000 bytes"),
        ({"parts": (Part(name="../../x", size=2000, sha256="b" * 64), bundle().parts[1])}, "part 1 is named '../../x'"),
        ({"parts": (Part(name=part_name("foreign", 7, 1), size=2000, sha256=""), bundle().parts[1])}, "no SHA-256"),
        ({"blobs": (*bundle().blobs, BundleBlob(digest=LAYER, size=1, offset=2600))}, "is listed twice"),
        ({"blobs": (bundle().blobs[0], BundleBlob(digest=LAYER, size=9, offset=600))}, "lies over"),
        ({"blobs": (bundle().blobs[0], BundleBlob(digest=LAYER, size=2000, offset=1024))}, "behind the end"),
        ({"blobs": bundle().blobs[1:]}, "is not in it"),
        ({"needs": (Need(digest=Digest.of(b"n"), size=1, repository="a"),)}, "no receipt"),
        ({"images": (image(repository="mirrored/../../hr"),)}, "'mirrored/../../hr' is not a repository name"),
        ({"images": (image(tags=("3.12", "../x")),)}, "'../x' is not a tag"),
        ({"images": (image(digest_tags={"a/b": TOP}),)}, "'a/b' is not a tag"),
        ({"images": (image(platforms=("linux",)),)}, "'linux'"),
        ({"needs": (Need(digest=Digest.of(b"n"), size=1, repository="/a"),), "receipt": RECEIPT}, "'/a' is not a repo"),
        ({"schema": 0}, "its form is 0"),
        ({"made_at": "yesterday"}, "'yesterday', which is no time"),
        ({"needs": (Need(digest=LAYER, size=1, repository="a"),), "receipt": RECEIPT}, "left out of it"),
    ],
)
def test_a_document_that_does_not_hold_together_is_refused(
    changed: dict[str, object], said: str, make_key: MakeKey
) -> None:
    with pytest.raises(ManifestInvalid, match=said):
        read_bundle(seal(bundle(**changed), make_key("promoter").signer))


def test_a_newer_document_and_another_one(make_key: MakeKey) -> None:
    with pytest.raises(StateTooNew, match="newer build"):
        read_bundle(seal(bundle(schema=SCHEMA + 1), make_key("promoter").signer))
    with pytest.raises(ManifestInvalid, match="holds 'application/other'"):
        read_bundle(write_envelope(sign_envelope(b"{}", make_key("promoter").signer, payload_type="application/other")))


@given(raw=st.binary(max_size=300))
def test_no_bytes_of_others_do_more_than_an_error_of_ours(raw: bytes) -> None:
    with pytest.raises(RegistryPipelinesError):
        read_bundle(raw)


def test_names_of_documents() -> None:
    assert read_document_name("a-1-0012.bundle.json") == ("a-1", 12)
    assert read_document_name("foreign-12345.bundle.json") == ("foreign", 12345)
    assert not any(
        map(read_document_name, ("foreign-7.bundle.json", "x.json", "-0001.bundle.json", "../a-0001.bundle"))
    )
