"""CVSS base scores of versions 2, 3 and 4, against the vectors there are."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from registry_pipelines.scan.cvss import score_of, severity_of


# Scores published with the specifications' own examples (FIRST: CVSS v2 guide section 3.3, v3.1 and v4.0 "Examples").
@pytest.mark.parametrize(
    ("vector", "score", "severity"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8, "CRITICAL"),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, "MEDIUM"),
        ("CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4, "MEDIUM"),
        ("CVSS:3.0/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1, "LOW"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5, "HIGH"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0, "CRITICAL"),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:R/S:U/C:N/I:N/A:N", 0.0, "LOW"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:F/RL:O/RC:C", 9.8, "CRITICAL"),
        ("AV:N/AC:L/Au:N/C:N/I:N/A:C", 7.8, "HIGH"),
        ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0, "HIGH"),
        ("(AV:L/AC:H/Au:N/C:C/I:C/A:C/E:POC/RL:OF/RC:C)", 6.2, "MEDIUM"),
        ("AV:N/AC:L/Au:N/C:N/I:N/A:N", 0.0, "LOW"),
        ("CVSS:2.0/AV:N/AC:L/Au:N/C:P/I:P/A:P", 7.5, "HIGH"),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", 10.0, "CRITICAL"),
        ("CVSS:4.0/AV:N/AC:L/AT:P/PR:N/UI:P/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 7.7, "HIGH"),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:L/VA:L/SC:N/SI:N/SA:N", 8.8, "HIGH"),
        ("CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 7.3, "HIGH"),
        ("CVSS:4.0/AV:P/AC:H/AT:P/PR:H/UI:A/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", 0.0, "LOW"),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N/E:U", 9.3, "CRITICAL"),
    ],
)
def test_known_scores(vector: str, score: float, severity: str) -> None:
    computed = score_of(vector)
    assert computed is not None and (computed.number, computed.severity) == (score, severity)


@pytest.mark.parametrize(
    "vector",
    [
        "",
        "CVSS:3.1",
        "CVSS:3.1/",
        "AV:N/AC:L/Au:N/C:P/I:P",
        "AV:N/AC:L/Au:X/C:P/I:P/A:P",
        "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N",
        "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:R/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
        "CVSS:4.1/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
        "CVSS:5.0/AV:N/AC:L/Au:N/C:P/I:P/A:P",
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H",
        "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        "CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        "CVSS:3.2/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    ],
)
def test_other_vectors_have_no_score(vector: str) -> None:
    assert score_of(vector) is None


def every(metrics: str, *values: str) -> list[str]:
    names = metrics.split()
    return [
        "/".join(f"{name}:{value}" for name, value in zip(names, chosen, strict=True))
        for chosen in itertools.product(*values)
    ]


THREE = every("AV AC PR UI S C I A", "NALP", "LH", "NLH", "NR", "UC", "HLN", "HLN", "HLN")
FOUR = every("AV AC AT PR UI VC VI VA SC SI SA", "NALP", "LH", "NP", "NLH", "NPA", *["HLN"] * 6)
VECTORS = {
    "2": every("AV AC Au C I A", "LAN", "HML", "MSN", "NPC", "NPC", "NPC"),
    "3": [f"CVSS:{version}/{vector}" for version in ("3.0", "3.1") for vector in THREE],
    "4": [f"CVSS:4.0/{vector}" for vector in FOUR[::17]],
}


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        ("2", "efed619b32adeeb5402004b8a9180ce9e25cc70b2b2453f48d631a941c756a01"),
        ("3", "01920b9b721ce4d1e0cccb30946d181a2fad59d7716e6dfa74999d519d2cef6e"),
        ("4", "78abd019e51a3ed712dbb65a7bb6b0b58ccd82285d1ab95fe4c2f0c3e774082f"),
    ],
)
def test_scores_are_as_when_they_were_compared(version: str, digest: str) -> None:
    """Digests taken when every vector of each version (729, 5,184 and 104,976; of version 4 each 17th is computed here)
    agreed with the cvss library 3.6. It is LGPL and nobody has to install it; to take a digest anew, compare each
    number with ``float(cvss.CVSS4(vector).base_score)``, ``CVSS3``, ``CVSS2``."""
    scores = {vector: score_of(vector) for vector in VECTORS[version]}
    table = "".join(f"{vector} {score.number}\n" for vector, score in scores.items() if score)
    assert hashlib.sha256(table.encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("score", "severity"), [(0.0, "LOW"), (3.9, "LOW"), (4.0, "MEDIUM"), (7.0, "HIGH"), (9.0, "CRITICAL")]
)
def test_ratings_begin_where_the_specification_says(score: float, severity: str) -> None:
    assert severity_of(score) == severity
