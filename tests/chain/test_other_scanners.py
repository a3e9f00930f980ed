"""trivy and grype beside our own advisories, as a user configures them: programs, and files of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.config.registries import EmbeddedRegistry
from registry_pipelines.release import Release
from registry_pipelines.scan.publish import read_report
from tests.chain.fleet import Fleet, write_advisory
from tests.doubles.certificates import make_certificates
from tests.scan.scanner_documents import grype, grype_match, trivy, trivy_finding, trivy_version

GOOD = "pkg:pypi/goodwheel@1.0"


@pytest.fixture
def release(fleet: Fleet) -> Release:
    found = fleet.release("v1")
    fleet.chain.sbom(found)
    return found


def configured(fleet: Fleet, text: str) -> Chain:
    return fleet.reload(("signing:", f"scanners: {text}\nsigning:"))


def program(folder: Path, script: str) -> Path:
    """A program in trivy's or grype's place; it must be given the image by digest."""
    path = folder / "scanner"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def told(result: StageResult) -> str:
    return "\n".join(result.reasons)


def test_a_program_is_started_with_the_digest_and_without_what_would_hide_findings(
    fleet: Fleet, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVY_SEVERITY", "CRITICAL")
    monkeypatch.setenv("TRIVY_CACHE_DIR", "/cache")
    monkeypatch.setenv("TRIVY_INSECURE", "true")
    answer = fleet.folder / "answer.json"
    answer.write_bytes(trivy(trivy_finding("CVE-2026-77", GOOD), repository_digest=release.digest, kind="lang-pkgs"))
    version = fleet.folder / "version.json"
    version.write_bytes(trivy_version(days_ago(1)))
    log = fleet.folder / "log"
    script = f"""
    echo "$@ $TRIVY_SEVERITY $TRIVY_CACHE_DIR $TRIVY_INSECURE $(ls -A)" >> {log}
    [ "$1" = version ] && exec cat {version}
    exec cat {answer}"""
    chain = configured(fleet, f"{{trivy: {{program: {program(fleet.folder, script)}}}}}")
    result = chain.vulnerabilities(release)
    assert "HIGH 7.5: pkg:pypi/goodwheel@1.0: CVE-2026-77" in told(result)
    assert result.rows[0]["found_by"] == "trivy"
    [row] = result.tables["scanners"]
    assert (row["scanner"], row["findings"], row["alone"], row["images"]) == ("trivy", 1, 1, 1)
    asked, about = log.read_text().splitlines()
    assert (
        asked.split()[0] == "image"
        and asked.split()[-3].endswith(f"@{release.digest}")
        and asked.endswith("/cache true ")
    )
    assert about.startswith("version --format json")
    chain.sign(release)
    verdict = chain.judge(release)
    assert not verdict.ok and "CVE-2026-77" in told(verdict)


def test_it_is_told_how_the_registry_is_reached(
    fleet: Fleet, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one that prints its variables and the certificates that it would trust, beside those of the machine."""
    monkeypatch.delenv("GRYPE_REGISTRY_INSECURE_USE_HTTP", raising=False)
    monkeypatch.delenv("TRIVY_INSECURE", raising=False)
    for name in ("machine", "ours"):
        make_certificates(tmp_path / name)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "machine" / "ca.pem"))
    us = fleet.config.registries["us"]
    assert isinstance(us, EmbeddedRegistry)
    script = 'echo "$GRYPE_REGISTRY_INSECURE_USE_HTTP" >told; cat "$SSL_CERT_FILE" >>told'.replace(
        "told", str(tmp_path / "told")
    )
    scanners = f"{{grype: {{program: {program(fleet.folder, script)}}}}}"
    chain = configured(fleet, scanners)
    chain.vulnerabilities(release)
    machine = (tmp_path / "machine" / "ca.pem").read_text()
    assert (tmp_path / "told").read_text() == f"\n{machine}"
    private = f"us: {{kind: distribution, host: '{us.address}', plain_http: true, ca_file: {tmp_path}/ours/ca.pem}}"
    chain = fleet.reload((f"us: {{kind: embedded, port: {us.port}}}", private))
    chain.vulnerabilities(release)
    http, *pem = (tmp_path / "told").read_text().splitlines()
    assert http == "true" and "\n".join(pem).count("BEGIN CERTIFICATE") == 2
    assert pem[: machine.count("\n")] == machine.splitlines()
    chain = fleet.reload(("grype:", "trivy:"))
    failing = program(fleet.folder, "exit 1")
    assert failing.exists() and "TRIVY_INSECURE=true alone" in told(chain.vulnerabilities(release))


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("echo 'FATAL cache may be in use by another process' >&2; exit 1", "pending"),
        ("echo '1 error: failed to load vulnerability db: none' >&2; exit 1", "uncovered"),
        ("echo boom >&2; exit 3", "incomplete"),
        (r"printf '[0006] \033[31mERROR\033[0m failed to load vulnerability db\n' >&2; exit 1", "uncovered"),
        ("echo '{'", "unreadable"),
        ("exec sleep 60", "pending"),
        ("", "incomplete"),
    ],
)
def test_a_program_that_fails_never_reads_as_no_finding(fleet: Fleet, release: Release, script: str, kind: str) -> None:
    path = program(fleet.folder, script) if script else fleet.folder / "absent"
    limit = "1s" if "sleep" in script else "10m"
    chain = configured(fleet, f"{{grype: {{program: {path}, timeout: {limit}}}}}")
    result = chain.vulnerabilities(release)
    assert not result.ok and told(result).startswith(f"{kind}: scanner/grype") and "\x1b" not in told(result)
    chain.sign(release)
    assert not chain.judge(release).ok


def test_a_report_in_a_file_is_pending_until_it_is_there_and_its_age_counts(fleet: Fleet, release: Release) -> None:
    chain = configured(fleet, "{grype: {reports: 'scans/{image}-{digest}.json'}}")
    assert told(chain.vulnerabilities(release)).startswith("pending: scanner/grype")
    assert chain.vulnerabilities(release).next_steps[0].startswith("registry-pipelines scan")
    path = fleet.folder / "scans" / f"app-{release.digest.hex}.json"
    path.parent.mkdir()
    path.write_bytes(grype(about=release.digest, built=days_ago(1)))
    assert chain.vulnerabilities(release).ok
    chain.sign(release)
    assert chain.judge(release).ok
    path.write_bytes(grype(about=release.digest, built=days_ago(9)))
    assert chain.vulnerabilities(release).ok  # the age is the verdict's to judge
    assert "advisories of grype: its database is of" in told(chain.judge(release))
    path.write_bytes(grype(grype_match("GHSA-1", GOOD), about=release.digest, built=days_ago(1)))
    assert "GHSA-1" in told(chain.vulnerabilities(release))


def test_a_rescan_keeps_what_another_scanner_found(fleet: Fleet, release: Release) -> None:
    chain = configured(fleet, "{grype: {reports: grype.json}}")
    path = fleet.folder / "grype.json"
    path.write_bytes(grype(grype_match("GHSA-1", GOOD), about=release.digest, built=days_ago(1)))
    chain.vulnerabilities(release)
    write_advisory(fleet.folder / "advisories", package="goodwheel")
    assert chain.rescan().changed
    _, report = read_report(chain.place("app"), release.digest)
    assert {name for each in report.findings for name in each.ids} == {"GHSA-1", "TEST-2026-1"}
    assert [scanner.name for scanner in report.scanners] == ["grype"]
