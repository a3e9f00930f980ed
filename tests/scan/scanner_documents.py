"""Reports as trivy and grype write them, about an image; the fields are those of their own golden files."""

from __future__ import annotations

import json
from typing import Any

from registry_pipelines.oci.digest import Digest

MANIFEST = Digest.of(b"manifest")
CONFIG = Digest.of(b"config")


def trivy(
    *vulnerabilities: dict[str, Any],
    repository_digest: Digest = MANIFEST,
    eosl: bool = False,
    kind: str = "os-pkgs",
    **changes: Any,
) -> bytes:
    document: dict[str, Any] = {
        "SchemaVersion": 2,
        "CreatedAt": "2026-11-23T12:20:30.000000005Z",
        "ArtifactName": f"reg.example/app@{repository_digest}",
        "ArtifactType": "container_image",
        "Metadata": {
            "OS": {"Family": "debian", "Name": "12.5", "EOSL": eosl},
            "ImageID": "sha256:" + "0" * 64,
            "RepoDigests": [f"reg.example/app@{repository_digest}"],
            "ImageConfig": {"architecture": "amd64", "os": "linux"},
        },
        "Results": [
            {"Target": "app (debian 12.5)", "Class": kind, "Type": "debian", "Vulnerabilities": vulnerabilities}
        ],
        "Trivy": {"Version": "0.68.1"},
    }
    return json.dumps(document | changes).encode()


def trivy_finding(name: str, purl: str, *, severity: str = "HIGH", **changes: Any) -> dict[str, Any]:
    package, _, version = purl.rpartition("/")[2].partition("?")[0].partition("@")
    return {
        "VulnerabilityID": name,
        "PkgID": f"{package}@{version}",
        "PkgName": package,
        "PkgIdentifier": {"PURL": purl, "UID": "1"},
        "InstalledVersion": version,
        "FixedVersion": "9.9",
        "Status": "fixed",
        "SeveritySource": "nvd",
        "Title": "a hole",
        "Severity": severity,
        "CVSS": {"nvd": {"V3Vector": "CVSS:3.1/...", "V3Score": 7.5}, "redhat": {"V3Score": 5.9}},
    } | changes


def trivy_version(updated: str = "2026-11-23T06:00:00.12345Z") -> bytes:
    return json.dumps({"Version": "0.68.1", "VulnerabilityDB": {"Version": 2, "UpdatedAt": updated}}).encode()


def grype(
    *matches: dict[str, Any], about: Digest = MANIFEST, built: str = "2026-11-23T06:00:00Z", **changes: Any
) -> bytes:
    document: dict[str, Any] = {
        "matches": matches,
        "source": {
            "type": "image",
            "target": {"userInput": "x", "imageID": str(CONFIG), "manifestDigest": str(about), "repoDigests": []},
        },
        "distro": {"name": "debian", "version": "12", "idLike": []},
        "descriptor": {
            "name": "grype",
            "version": "0.104.0",
            "db": {"status": {"schemaVersion": "v6.1.3", "built": built, "valid": True}} if built else {},
        },
    }
    return json.dumps(document | changes).encode()


def grype_match(name: str, purl: str, *related: str, severity: str = "High") -> dict[str, Any]:
    package, _, version = purl.rpartition("/")[2].partition("?")[0].partition("@")
    return {
        "vulnerability": {
            "id": name,
            "severity": severity,
            "description": "a hole",
            "cvss": [{"version": "3.1", "vector": "CVSS:3.1/...", "metrics": {"baseScore": 8.2}}],
            "fix": {"versions": ["9.9"], "state": "fixed"},
        },
        "relatedVulnerabilities": [{"id": each, "severity": "High"} for each in related],
        "matchDetails": [{"type": "exact-direct-match", "matcher": "python-matcher"}],
        "artifact": {
            "name": package,
            "version": version,
            "type": "python",
            "locations": [{"path": "/usr/lib/x/METADATA", "accessPath": "/usr/lib/x/METADATA"}],
            "purl": purl,
            "upstreams": [],
        },
    }
