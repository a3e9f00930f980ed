"""What one image has and another has not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.scan.changes import PackageChange, package_changes
from registry_pipelines.scan.report import Component, Evidence, PlatformPackages

MANIFEST = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"x"), size=1)


def component(name: str, version: str, ecosystem: str = "PyPI", evidence: Evidence = "manifest") -> Component:
    purl = f"pkg:pypi/{name}@{version}"
    return Component(purl=purl, name=name, version=version, type="pypi", ecosystem=ecosystem, evidence=evidence)


def on(platform: str, *components: Component) -> PlatformPackages:
    return PlatformPackages(
        subject=Digest.of(b"top"), manifest=MANIFEST, platform=Platform.parse(platform), components=components
    )


AMD, ARM = "linux/amd64", "linux/arm64"


def test_packages_are_added_removed_and_changed_by_ecosystem() -> None:
    before = [on(AMD, component("a", "1"), component("b", "1"), component("libc", "2.36", "Debian:12"))]
    after = [on(AMD, component("a", "2"), component("c", "1"), component("libc", "2.41", "Debian:13"))]
    assert package_changes(before, after) == [
        PackageChange("Debian", "libc", "changed", ("2.36",), ("2.41",), (AMD,)),
        PackageChange("PyPI", "a", "changed", ("1",), ("2",), (AMD,)),
        PackageChange("PyPI", "b", "removed", ("1",), (), (AMD,)),
        PackageChange("PyPI", "c", "added", (), ("1",), (AMD,)),
    ]


def test_of_several_versions_those_of_one_side_are_named() -> None:
    before = [on(AMD, component("a", "1"), component("a", "2"))]
    after = [on(AMD, component("a", "2"), component("a", "3"))]
    assert package_changes(before, after) == [PackageChange("PyPI", "a", "changed", ("1",), ("3",), (AMD,))]


def test_platforms_that_only_one_has_are_not_compared_and_equal_changes_are_one_row() -> None:
    old, new = component("a", "1"), component("a", "2")
    before, after = [on(AMD, old), on(ARM, old)], [on(AMD, new), on(ARM, new), on("linux/s390x", new)]
    assert package_changes(before, after) == [PackageChange("PyPI", "a", "changed", ("1",), ("2",), (AMD, ARM))]
    assert package_changes([on(AMD, old)], [on(ARM, new)]) == []


def test_what_only_its_file_shows_is_not_compared() -> None:
    assert package_changes([on(AMD)], [on(AMD, component("libz", "", evidence="name"))]) == []


components = st.builds(
    component, st.sampled_from("abc"), st.sampled_from("123"), st.sampled_from(["PyPI", "npm", "Debian:12", ""])
)
images = st.lists(st.builds(on, st.sampled_from([AMD, ARM])) | components.map(lambda one: on(AMD, one)), max_size=6)


@given(images, images)
def test_backwards_what_was_added_is_removed(before: list[PlatformPackages], after: list[PlatformPackages]) -> None:
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    there = {(one.ecosystem, one.name, one.change, one.before, one.after) for one in package_changes(before, after)}
    back = package_changes(after, before)
    assert there == {(one.ecosystem, one.name, turned[one.change], one.after, one.before) for one in back}
    assert package_changes(before, before) == []
