"""Platforms: parsing, printing, matching."""

from __future__ import annotations

import platform as machine

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import PlatformInvalid
from registry_pipelines.oci.platforms import Platform

PART = st.text("abcdefgh0123456789_.-", min_size=1, max_size=8)


@settings(deadline=None)
@given(PART, PART, st.one_of(st.just(""), PART))
def test_print_and_parse(os: str, architecture: str, variant: str) -> None:
    platform = Platform.parse("/".join(part for part in (os, architecture, variant) if part))
    assert Platform.parse(str(platform)) == platform and platform.matches(platform)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AARCH64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/i686", "linux/386"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_aliases(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "linux", "/", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux/amd64/", "linux//v8"]
)
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(PlatformInvalid):
        Platform.parse(text)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_platform_or_our_error(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except PlatformInvalid:
        return
    assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize(
    ("wanted", "offered", "serves"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm/v7", "linux/arm", True),  # what containerd takes an arm without a variant for
        ("linux/amd64", "linux/amd64/v3", True),
        ("linux/amd64/v1", "linux/amd64", True),
        ("linux/amd64/v2", "linux/amd64", False),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "windows/amd64", False),
    ],
)
def test_matching(wanted: str, offered: str, serves: bool) -> None:
    assert Platform.parse(wanted).matches(Platform.parse(offered)) is serves


@pytest.mark.parametrize(("system", "architecture"), [("linux", "x86_64"), ("Linux", "AMD64"), ("linux", "x86-64")])
def test_names_that_indexes_use_as_well(system: str, architecture: str) -> None:
    """Docker 20.10 and containerd 1.6 start such an entry on linux/amd64."""
    assert Platform.parse("linux/amd64").matches(Platform(os=system, architecture=architecture))


def test_an_explicit_v8_of_an_index_serves_arm64() -> None:
    offered = Platform(os="linux", architecture="arm64", variant="v8")
    assert Platform.parse("linux/arm64").matches(offered)
    assert offered.matches(Platform(os="linux", architecture="arm64"))


@pytest.mark.parametrize(("os", "architecture"), [("", ""), ("linux", ""), ("linux", "amd64")])
def test_what_a_poor_config_names_is_written_and_read(os: str, architecture: str) -> None:
    platform = Platform(os=os, architecture=architecture)
    assert Platform.written(str(platform)) == platform


def test_this_machine() -> None:
    assert Platform.here().os == machine.system().lower()
