"""Digests: grammar, both algorithms, verification."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import DigestInvalid, DigestMismatch
from registry_pipelines.oci.digest import HEX_LENGTHS, Digest

ALGORITHMS = st.sampled_from(sorted(HEX_LENGTHS))


@settings(deadline=None)
@given(st.binary(max_size=200), ALGORITHMS)
def test_round_trip(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    assert Digest.parse(digest) == digest and (digest.algorithm, digest.hex) == tuple(digest.split(":"))
    hasher = digest.hasher()
    hasher.update(content)
    assert hasher.hexdigest() == digest.hex
    digest.check(content)
    digest.check(memoryview(content))


@settings(deadline=None)
@given(st.binary(max_size=50), ALGORITHMS)
def test_every_truncation_and_extension_is_refused(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    for text in [digest[:length] for length in range(len(digest))] + [digest + "0", digest + "\n", " " + digest]:
        with pytest.raises(DigestInvalid):
            Digest.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "md5:" + "0" * 32,
        "sha512:" + "0" * 64,
        "sha256:" + "0" * 128,
        "SHA256:" + "0" * 64,
        "sha256-" + "0" * 64,
        "../" + "0" * 64,
        "sha256:" + "\u0661" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@settings(deadline=None)
@given(st.text(max_size=150))
def test_any_text_is_a_digest_or_our_error(text: str) -> None:
    try:
        assert Digest.parse(text) == text
    except DigestInvalid as error:
        assert len(str(error)) < 700, "long input is not repeated in full"


def test_wrong_content_is_named() -> None:
    with pytest.raises(DigestMismatch, match="expected sha512:") as caught:
        Digest.of(b"a", "sha512").check(b"b", where="reg/app")
    assert caught.value.where == "reg/app"


def test_short_forms_and_fallback_tags() -> None:
    sha256, sha512 = Digest.of(b""), Digest.of(b"", "sha512")
    assert sha256.short == "sha256:e3b0c44298fc"
    assert sha256.fallback_tag == "sha256-" + sha256.hex
    assert sha512.fallback_tag == "sha512-" + sha512.hex[:64], "the distribution-spec cuts to 64 characters"
