"""Names and versions from hostile images reach purls, documents and reports and read back equal; no exception."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.scan import language_packages as language
from registry_pipelines.scan import os_databases
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.components import find_components
from registry_pipelines.scan.facts import AnyFact, LayerContent, Native
from registry_pipelines.scan.match import match
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.scan.report import PlatformPackages, Report
from registry_pipelines.scan.sbom import cyclonedx, read_cyclonedx

DIGEST = Digest.of(b"x")
WORD = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.sampled_from(
        ["%2F", "a@b", "a?b=c", "#", "..", " ", "a b", "@s/x", "~", "+", "%", "\x7f", "\u202e", "1.0+b~1", "&x=y"]
    ),
)
FILE = WORD.map(lambda text: text.replace("/", "_").replace("\0", "_"))


@settings(deadline=None, max_examples=250)
@given(name=FILE, first=WORD, second=WORD, third=WORD)
def test_everything_found_reads_back_equal(pypa: AdvisoryStore, name: str, first: str, second: str, third: str) -> None:
    raw = f"ID={third}\nVERSION_ID={second}\n".encode()
    status = (
        f"Package: p{first}\nStatus: install ok installed\nVersion: {second}\nArchitecture: {third}\nSource: {first}\n"
    )
    apk = f"P:p\nV:{second}\nA:{third}\no:{first}\n"
    document = {"name": first, "version": second, "build": third, "channel": name}
    import msgspec

    facts: dict[str, AnyFact] = {
        f"lib/{name}.so": Native(name=f"{name}.so"),
        "etc/os-release": os_databases.read_os_release(raw),
        "var/lib/dpkg/status": os_databases.read_dpkg(status.encode(), status_required=True),
        "lib/apk/db/installed": os_databases.read_apk(apk.encode()),
        "s/a.dist-info/METADATA": language.read_metadata(f"Name: {first}\nVersion: {second}\n".encode()),
        "c/conda-meta/x.json": language.read_conda(msgspec.json.encode(document), "c/conda-meta/x.json"),
        f"node_modules/{name}/package.json": language.read_npm(
            msgspec.json.encode(document), f"node_modules/{name}/package.json"
        ),
    }
    contents = find_components(merge_layers([LayerContent(facts=facts, links={name: "../x"}, escapes=(name,))]))
    packages = PlatformPackages(
        subject=DIGEST,
        manifest=Descriptor(media_type=OCI_MANIFEST, digest=DIGEST, size=1),
        platform=Platform(os="linux", architecture="amd64"),
        components=tuple(contents.components),
        unknowns=tuple(contents.unknowns),
        left_out=tuple(contents.left_out),
    )
    assert read_cyclonedx(cyclonedx(packages)) == packages
    report = match([packages], pypa, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert Report.decode(report.encode()) == report
    assert any(component.name == f"{name}.so" for component in contents.components)


@pytest.mark.parametrize("version", ["1.0", "1:2.3-4+deb12u1~bpo12", "3.11.0rc1+dfsg"])
def test_ordinary_debian_versions_keep_their_text(version: str) -> None:
    status = f"Package: p\nStatus: install ok installed\nVersion: {version}\n".encode()
    facts: dict[str, AnyFact] = {"var/lib/dpkg/status": os_databases.read_dpkg(status, status_required=True)}
    (component,), _, _, _ = find_components(merge_layers([LayerContent(facts=facts, links={})]))
    assert component.version == version
