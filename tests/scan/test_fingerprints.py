"""A release whose fingerprint is as it was has the report that it had, whatever advisories are about others."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.chain.rescan import _said
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.fingerprints import Fingerprints, Holdings, packages_of
from registry_pipelines.scan.match import match
from registry_pipelines.scan.report import Component, PlatformPackages, Report

SUBJECT = Digest.of(b"a release")
ECOSYSTEMS = {"PyPI": "pypi", "Debian:12": "deb", "npm": "npm"}

components = st.builds(
    lambda ecosystem, name, version, source: Component(
        purl=f"pkg:{ECOSYSTEMS[ecosystem]}/{name}@{version}",
        name=name,
        version=version,
        type=ECOSYSTEMS[ecosystem],
        ecosystem=ecosystem,
        source_name=source,
    ),
    st.sampled_from(list(ECOSYSTEMS)),
    st.sampled_from(["Good_Wheel", "good-wheel", "ssl", "left"]),
    st.sampled_from(["1.0", "2.0"]),
    st.sampled_from(["", "source"]),
)
records = st.fixed_dictionaries(
    {
        "ecosystem": st.sampled_from(["PyPI", "Debian:12", "Debian", "npm", "Alpine:v3.20"]),
        "name": st.sampled_from(["good-wheel", "ssl", "source", "other"]),
        "fixed": st.sampled_from(["1.5", "3.0"]),
        "withdrawn": st.sampled_from(["", "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]),
    }
)
sets = st.dictionaries(st.sampled_from(["A-1", "A-2", "A-3"]), records, min_size=1)


def store_of(told: dict[str, dict[str, str]], folder: Path) -> AdvisoryStore:
    source = folder / "advisories"
    source.mkdir(parents=True)
    for name, each in told.items():
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": each["fixed"]}]}]
        record = {
            "id": name,
            "modified": "2026-01-01T00:00:00Z",
            "affected": [{"package": {"ecosystem": each["ecosystem"], "name": each["name"]}, "ranges": ranges}],
            **({"withdrawn": each["withdrawn"]} if each["withdrawn"] else {}),
        }
        (source / f"{name}.json").write_text(json.dumps(record))
    return AdvisoryStore.load(source, folder / "state")


def platform_of(held: list[Component]) -> PlatformPackages:
    manifest = Descriptor(media_type=OCI_MANIFEST, digest=SUBJECT, size=1)
    where = Platform(os="linux", architecture="amd64")
    return PlatformPackages(subject=SUBJECT, manifest=manifest, platform=where, components=tuple(held))


@given(st.lists(components, max_size=4), sets, sets)
@settings(max_examples=60, deadline=None)
def test_equal_fingerprints_mean_equal_reports(held: list[Component], before: dict, after: dict) -> None:  # type: ignore[type-arg]
    packages = platform_of(held)
    prints: list[str] = []
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, told in enumerate((before, after)):
            store = store_of(told, Path(folder, str(number)))
            prints.append(Fingerprints(store, ["key"]).of(packages_of([packages])))
            reports.append(_said(match([packages], store)))
            store.close()
    assert prints[0] != prints[1] or reports[0] == reports[1]
    if before == after:
        assert prints[0] == prints[1]


def test_what_is_about_others_changes_no_fingerprint_and_other_keys_do(tmp_path: Path) -> None:
    mine = {"ecosystem": "PyPI", "name": "ssl", "fixed": "3.0", "withdrawn": ""}
    packages = {("PyPI", "ssl")}
    one = store_of({"A-1": mine}, tmp_path / "1")
    two = store_of({"A-1": mine, "A-2": {**mine, "name": "other"}}, tmp_path / "2")
    three = store_of({"A-1": {**mine, "fixed": "1.5"}}, tmp_path / "3")
    said = Fingerprints(one, ["key"]).of(packages)
    assert Fingerprints(two, ["key"]).of(packages) == said
    assert said not in (Fingerprints(three, ["key"]).of(packages), Fingerprints(one, ["key", "more"]).of(packages))


@given(st.dictionaries(st.text(max_size=8), st.sets(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=5)))
def test_holdings_are_read_as_they_were_kept(told: dict[str, set[tuple[str, str]]]) -> None:
    holdings = Holdings()
    for key, packages in told.items():
        holdings.keep(key, packages)
    read = Holdings.decode(holdings.encode())
    assert {key: set(read.of(key) or ()) for key in told} == told
    half = list(told)[: len(told) // 2]
    only = Holdings.decode(read.only(half).encode())
    assert [key for key in told if only.of(key) is not None] == half


@given(st.binary(max_size=60))
def test_any_other_bytes_hold_nothing(raw: bytes) -> None:
    assert Holdings.decode(raw).of("app:v1") is None
    assert Holdings.decode(Holdings().encode()[:-1] + raw[:1]).of("app:v1") is None
