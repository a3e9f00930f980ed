"""References, by Docker's rules; cases follow the grammar in the distribution project's reference package."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ReferenceInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import MAX_NAME_LENGTH, Reference, check_repository, check_tag

DIGEST = Digest.of(b"x")
SHA512 = Digest.of(b"x", "sha512")


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("python", "docker.io", "library/python", "latest"),
        ("python:3.11", "docker.io", "library/python", "3.11"),
        ("team/app", "docker.io", "team/app", "latest"),
        ("docker.io/python", "docker.io", "library/python", "latest"),
        ("index.docker.io/python", "docker.io", "library/python", "latest"),
        ("docker.io/team/app", "docker.io", "team/app", "latest"),
        ("localhost/app", "localhost", "app", "latest"),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1"),
        ("reg.example/a/b/c:1.0_x-y", "reg.example", "a/b/c", "1.0_x-y"),
        ("127.0.0.1:5501/app", "127.0.0.1:5501", "app", "latest"),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest"),
        ("reg:80/a__b/c.d/e---f", "reg:80", "a__b/c.d/e---f", "latest"),
        (
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/app:v1",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com",
            "app",
            "v1",
        ),
        ("europe-docker.pkg.dev/project/repo/app", "europe-docker.pkg.dev", "project/repo/app", "latest"),
    ],
)
def test_names(text: str, registry: str, repository: str, tag: str) -> None:
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag, reference.digest) == (
        registry,
        repository,
        tag,
        None,
    )
    assert Reference.parse(str(reference)) == reference


def test_digests() -> None:
    reference = Reference.parse(f"reg.example/app:v1@{SHA512}")
    assert (reference.tag, reference.digest, reference.selector) == ("v1", SHA512, SHA512)
    assert Reference.parse(f"reg.example/app@{DIGEST}").tag == ""
    assert str(reference) == f"reg.example/app:v1@{SHA512}"
    assert str(reference.with_digest(DIGEST)) == f"reg.example/app@{DIGEST}"
    assert str(reference.with_tag("v2")) == "reg.example/app:v2"
    assert Reference.parse("reg.example/app", default_tag="").selector == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "app:",
        "App",
        "a//b",
        "a/",
        "/a",
        "a/B",
        "reg.example/App",
        "a__-b",
        "a..b",
        "-a",
        "a-",
        "a___b",
        "app:-tag",
        "app:.tag",
        "app:" + "t" * 129,
        "app@",
        "app@sha256:short",
        f"app@{DIGEST}0",
        f"app@md5:{'0' * 32}",
        "reg_.example/app",
        "reg.example:port/app",
        "reg.example:/app",
        "https://reg.example/app",
        "user@reg.example/app",
        "app tag",
        "app\n",
        "app:v1\n",
        "reg.example/" + "a" * 255,
        "é",
        "../../etc",
        "app:v1:v2",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ReferenceInvalid):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("https://reg.example/app:v1", "reg.example/app:v1"),
        ("docker://127.0.0.1:5000/app", "127.0.0.1:5000/app"),
        ("https://me:hunter2@reg.example/app", "reg.example/app"),
    ],
)
def test_who_writes_a_url_is_told_what_to_write(text: str, written: str) -> None:
    with pytest.raises(ReferenceInvalid) as told:
        Reference.parse(text)
    assert told.value.do == f"Write {written}" and "hunter2" not in str(told.value)


def test_the_longest_name() -> None:
    assert Reference.parse("r.x/" + "a" * (MAX_NAME_LENGTH - 4)).registry == "r.x"
    with pytest.raises(ReferenceInvalid, match="longer"):
        Reference.parse("r.x/" + "a" * (MAX_NAME_LENGTH - 3))


WORD = st.text("abcxyz019", min_size=1, max_size=6)
REPOSITORY = st.lists(
    st.builds("{}{}{}".format, WORD, st.sampled_from([".", "_", "__", "-", "--"]), WORD), min_size=1, max_size=3
).map("/".join)
REGISTRY = st.one_of(
    st.builds("{}.{}".format, WORD, WORD), st.builds("{}:{}".format, WORD, st.integers(1, 65535)), st.just("localhost")
)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True).filter(str.isascii)


@settings(deadline=None)
@given(REGISTRY, REPOSITORY, TAG, st.sampled_from([None, DIGEST, SHA512]))
def test_print_and_parse(registry: str, repository: str, tag: str, digest: Digest | None) -> None:
    made = Reference(registry, repository, tag, digest)
    assert Reference.parse(str(made)) == made
    assert check_repository(repository) == repository and check_tag(tag) == tag


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_our_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ReferenceInvalid as error:
        assert len(str(error)) < 1000
        return
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize("text", ["", "-x", ".x", "a b", "x" * 129, "a/b", "a:b", "ü", "x\n"])
def test_tags_that_are_none(text: str) -> None:
    with pytest.raises(ReferenceInvalid):
        check_tag(text)
