"""The CVSS 3 base score, against every vector there is."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from registry_pipelines.scan.cvss import base_score, severity_of


# Scores published with the specification's own examples (FIRST, CVSS v3.1 "Examples").
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
    ],
)
def test_known_scores(vector: str, score: float, severity: str) -> None:
    found = base_score(vector)
    assert found == score and severity_of(score) == severity


@pytest.mark.parametrize(
    "vector",
    [
        "",
        "CVSS:3.1",
        "CVSS:3.1/",
        "AV:N/AC:L/Au:N/C:P/I:P/A:P",
        "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H",
        "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        "CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        "CVSS:3.2/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    ],
)
def test_other_vectors_have_no_score(vector: str) -> None:
    assert base_score(vector) is None


METRICS = ("AV", "AC", "PR", "UI", "S", "C", "I", "A")
VECTORS = [
    f"CVSS:{version}/" + "/".join(f"{name}:{value}" for name, value in zip(METRICS, values, strict=True))
    for version in ("3.0", "3.1")
    for values in itertools.product("NALP", "LH", "NLH", "NR", "UC", "HLN", "HLN", "HLN")
]


def test_all_vectors_score_as_when_they_were_compared() -> None:
    """The digest of all 5,184 scores, taken when every one agreed with the cvss library 3.6. It is LGPL and nobody has
    to install it; to take the digest anew, compare each with ``float(cvss.CVSS3(vector).scores()[0])``."""
    table = "".join(f"{vector} {base_score(vector)}\n" for vector in VECTORS)
    assert len(VECTORS) == 5184
    assert (
        hashlib.sha256(table.encode()).hexdigest() == "01920b9b721ce4d1e0cccb30946d181a2fad59d7716e6dfa74999d519d2cef6e"
    )
