"""trivy, grype and syft themselves, as `.ci/build-scanners` builds them, beside our own advisories and over our SBOMs.

Their databases come from the internet; here each is written by the program's own library, with advisories of this test.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.cli import main
from registry_pipelines.release import Release
from registry_pipelines.scan.publish import read_report
from registry_pipelines.scan.sbom import scan_image
from tests.chain.fleet import Fleet, push, start
from tests.conftest import find_peer
from tests.doubles.certificates import make_certificates
from tests.needs import missing
from tests.patience import patient
from tests.scan.images import push_image

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

KINDS = ("trivy", "grype")
OF_A_WHEEL = "CVE-2031-1001"
OF_DEBIAN = "CVE-2031-1002"
ADVISORIES = (
    {"id": OF_A_WHEEL, "package": "goodwheel", "fixed": "1.1", "severity": "high", "summary": "one"},
    {"id": OF_DEBIAN, "package": "libexample1", "fixed": "2.0-1", "severity": "critical", "debian": "12"},
    {"id": "CVE-2031-1003", "package": "elsewhere", "fixed": "9", "severity": "low", "summary": "of nobody"},
)
STATUS = """\
Package: libexample1
Status: install ok installed
Priority: optional
Section: libs
Maintainer: Somebody <somebody@example.com>
Architecture: amd64
Version: 1.0-1
Description: an example

"""
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


def program(name: str) -> str:
    return find_peer(name) or missing(f"{name} is not installed (.ci/build-scanners builds it, with Go)")


def write_databases(folder: Path, monkeypatch: pytest.MonkeyPatch, *, days: int = 1) -> None:
    """Both find their advisories there, made so many days ago, and fetch none."""
    made = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = json.dumps({"made": made, "advisories": ADVISORIES}).encode()
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        subprocess.run([program(f"{kind}-database"), str(folder / kind)], input=told, check=True, timeout=patient(60))
    use_databases(folder, monkeypatch)


def use_databases(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TRIVY_CACHE_DIR": str(folder / "trivy"),
        "TRIVY_SKIP_DB_UPDATE": "true",
        "TRIVY_OFFLINE_SCAN": "true",
        "GRYPE_DB_CACHE_DIR": str(folder / "grype"),
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_DB_VALIDATE_AGE": "false",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_databases(tmp_path / "databases", monkeypatch)


def scanned_by(fleet: Fleet, *kinds: str) -> Chain:
    scanners = ", ".join(f"{kind}: {{program: {program(kind)}}}" for kind in kinds)
    return fleet.reload(("signing:", f"scanners: {{{scanners}}}\nsigning:"))


def debian(fleet: Fleet) -> Release:
    # trivy looks into debian_version, the others into os-release.
    files = {"etc/os-release": OS_RELEASE, "etc/debian_version": "12.11\n", "var/lib/dpkg/status": STATUS}
    return Release("app", "v2", push_image(fleet.chain.place("app"), [files], tag="v2").digest)


def clean(fleet: Fleet) -> Release:
    return Release("app", "v3", push(fleet.chain.place("app"), "v3", package="finewheel").digest)


def found(chain: Chain, release: Release) -> tuple[StageResult, dict[str, tuple[str, ...]]]:
    """The result of a scan, and by whom each vulnerability was found."""
    chain.sbom(release)
    result = chain.vulnerabilities(release)
    _, report = read_report(chain.place(release.image), release.digest)
    return result, {name: each.found_by for each in report.findings for name in each.ids}


@pytest.mark.usefixtures("databases")
def test_what_both_find_is_one_finding(fleet: Fleet) -> None:
    result, names = found(scanned_by(fleet, *KINDS), fleet.release("v1"))
    assert names == {OF_A_WHEEL: ("grype", "trivy")}
    [row] = result.rows
    assert (row["severity"], row["fixed"], row["component"]) == ("HIGH", "1.1", "pkg:pypi/goodwheel@1.0")


@pytest.mark.usefixtures("databases")
def test_a_registry_of_an_authority_of_our_own_is_reached(tmp_path: Path) -> None:
    """By its ``ca_file``; no variable says it."""
    made = make_certificates(tmp_path / "tls")
    tls = f"us: {{kind: embedded, tls_cert: {made.certificate}, tls_key: {made.key}, ca_file: {made.ca}, "
    (tmp_path / "fleet").mkdir()
    with ExitStack() as stack:
        fleet = start(tmp_path / "fleet", stack, ("us: {kind: embedded, ", tls))
        _, names = found(scanned_by(fleet, *KINDS), fleet.release("v1"))
        assert names == {OF_A_WHEEL: ("grype", "trivy")}


@pytest.mark.usefixtures("databases")
@pytest.mark.parametrize("kind", KINDS)
def test_each_finds_what_is_in_wheels_and_in_packages_of_debian(fleet: Fleet, kind: str) -> None:
    chain = scanned_by(fleet, kind)
    for release, name in ((fleet.release("v1"), OF_A_WHEEL), (debian(fleet), OF_DEBIAN)):
        result, names = found(chain, release)
        assert names == {name: (kind,)}
        assert [(each["scanner"], each["images"]) for each in result.tables["scanners"]] == [(kind, 1)]
        assert not [reason for reason in result.reasons if "scanner/" in reason], result.reasons


@pytest.mark.usefixtures("databases")
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_in_which_it_finds_nothing_goes_on(fleet: Fleet, kind: str) -> None:
    chain, release = scanned_by(fleet, kind), clean(fleet)
    result, names = found(chain, release)
    assert (result.ok, names) == (True, {}), result.reasons
    chain.sign(release)
    assert chain.judge(release).ok


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_database_it_never_reads_as_no_finding(
    fleet: Fleet, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_databases(tmp_path / "nothing", monkeypatch)
    result, _ = found(scanned_by(fleet, kind), clean(fleet))
    assert not result.ok and result.reasons[0].startswith(f"uncovered: scanner/{kind}"), result.reasons


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_database_counts_as_old(
    fleet: Fleet, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_databases(tmp_path / "databases", monkeypatch, days=40)
    chain, release = scanned_by(fleet, kind), clean(fleet)
    found(chain, release)
    chain.sign(release)
    assert f"advisories of {kind}: its database is of" in "\n".join(chain.judge(release).reasons)


@pytest.mark.usefixtures("databases")
@pytest.mark.parametrize("form", ["cyclonedx", "spdx"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_our_documents_and_finds_the_same(fleet: Fleet, kind: str, form: str, tmp_path: Path) -> None:
    for release, name in ((fleet.release("v1"), OF_A_WHEEL), (debian(fleet), OF_DEBIAN)):
        folder, image = tmp_path / release.tag, f"{fleet.chain.place('app')}@{release.digest}"
        words = ["sbom", image, "--output", str(folder), "--format", form, "--config", str(fleet.path)]
        assert CliRunner().invoke(main, words).exit_code == 0
        [document] = folder.iterdir()
        asked = ["sbom", str(document)] if kind == "trivy" else [f"sbom:{document}"]
        option = "--format" if kind == "trivy" else "--output"
        command = [program(kind), *asked, "--quiet", option, "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
        assert done.returncode == 0, done.stderr
        assert name in done.stdout, done.stdout[:2000]


def test_syft_lists_what_we_list(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    for release, purl in (
        (fleet.release("v1"), "pkg:pypi/goodwheel@1.0"),
        (debian(fleet), "pkg:deb/debian/libexample1@1.0-1"),
    ):
        command = [program("syft"), "--quiet", "scan", f"registry:{place}@{release.digest}", "-o", "cyclonedx-json"]
        quiet = os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"}
        done = subprocess.run(command, capture_output=True, check=True, timeout=patient(60), env=quiet)
        image = place.registry.resolve(place.repository, str(release.digest))
        [listed] = scan_image(place, image, state=fleet.config.state)
        ours = {each.purl.partition("?")[0] for each in listed.components}
        theirs = {each["purl"].partition("?")[0] for each in json.loads(done.stdout)["components"] if "purl" in each}
        assert ours == theirs == {purl}
