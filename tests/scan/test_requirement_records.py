"""RubySec's and RustSec's own forms: what they leave affected, against a direct reading of their requirements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.judging import entries_for, judge
from registry_pipelines.scan.match import match_component
from registry_pipelines.scan.osv import Record, RecordInvalid, read_record
from registry_pipelines.scan.report import Component
from registry_pipelines.scan.versions import parse_version

GEM = """
---
gem: rack
cve: 2025-61919
ghsa: 6xw4-3v39-52mm
title: Rack reads all of it
  into memory
date: 2025-10-10
cvss_v3: 7.5
unaffected_versions: ["< 2.0"]
patched_versions:
  - "~> 2.2.20"
  - ">= 3.2.3"
"""
CRATE = b"""```toml
[advisory]
id = "RUSTSEC-2025-0004"
package = "openssl"
date = "2025-02-02"
aliases = ["GHSA-rpmj-rpgj-qmpm"]
cvss = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
[versions]
patched = ["^0.10.70", ">= 1"]
unaffected = ["< 0.9"]
```

# select_next_proto: use after free

Text.
"""


def gem(patched: list[str], unaffected: list[str] = []) -> Record:  # noqa: B006 - read only
    document = {"gem": "a", "cve": "2026-1", "date": "2026-01-01", "patched_versions": patched}
    return read_record(json.dumps({**document, "unaffected_versions": unaffected}).encode(), form="yaml")


def crate(patched: list[str], unaffected: list[str] = []) -> Record:  # noqa: B006 - read only
    head = '[advisory]\nid="RUSTSEC-2026-0001"\npackage="a"\ndate="2026-01-01"\n[versions]\n'
    front = f"{head}patched={json.dumps(patched)}\n"
    return read_record(f"```toml\n{front}unaffected={json.dumps(unaffected)}\n```\n".encode(), form="markdown")


def affected(record: Record, ecosystem: str, version: str) -> bool:
    found = judge(entries_for(record, [ecosystem], "a"), ecosystem, version)
    assert found.problems == []
    return found.affected


def test_a_gem_s_record_says_all_that_it_says_in_osv_s_form() -> None:
    record = read_record(GEM.encode(), form="yaml")
    assert (record.id, record.modified) == ("RUBYSEC-rack-CVE-2025-61919", "2025-10-10T00:00:00Z")
    assert record.aliases == ["CVE-2025-61919", "GHSA-6xw4-3v39-52mm"]
    assert record.summary == "Rack reads all of it into memory"
    entries = entries_for(record, ["RubyGems"], "rack")
    expected = {"1.9": False, "2.0": True, "2.2.19": True, "2.2.20": False, "2.2.99": False, "2.3.0.pre": True}
    expected |= {"2.3": True, "3.2.2": True, "3.2.3": False}
    assert {text: judge(entries, "RubyGems", text).affected for text in expected} == expected


def test_a_crate_s_record_likewise_and_both_give_findings_from_a_checkout(tmp_path: Path) -> None:
    source = tmp_path / "db"
    (source / "crates" / "openssl").mkdir(parents=True)
    (source / "crates" / "openssl" / "RUSTSEC-2025-0004.md").write_bytes(CRATE)
    (source / "README.md").write_text("# no record")
    (source / "gems").mkdir()
    (source / "gems" / "CVE-2025-61919.yml").write_text(GEM)
    store = AdvisoryStore.load(source, tmp_path / "state")
    assert (store.facts.records, store.problems) == (2, [])
    [finding] = match_component(
        Component(
            purl="pkg:cargo/openssl@0.10.69", name="openssl", version="0.10.69", type="cargo", ecosystem="crates.io"
        ),
        store,
    )[0]
    assert finding.ids == ("GHSA-rpmj-rpgj-qmpm", "RUSTSEC-2025-0004") and finding.severity == "CRITICAL"
    assert finding.fixed_versions == ("0.10.70", "1.0.0") and finding.summary.startswith("select_next_proto")
    [finding] = match_component(
        Component(purl="pkg:gem/rack@2.2.1", name="rack", version="2.2.1", type="gem", ecosystem="RubyGems"), store
    )[0]
    assert finding.severity == "HIGH" and "CVE-2025-61919" in finding.ids
    store.close()


@pytest.mark.parametrize(
    ("requirement", "inside", "outside"),
    [
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0-rc.1", "2.0.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0-a", "0.3.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.2", "0.0.4"]),
        ("1.2", ["1.2.0", "1.9.0"], ["1.1.9", "2.0.0"]),
        ("~1.2", ["1.2.0", "1.2.9"], ["1.1.9", "1.3.0"]),
        ("~1", ["1.0.0", "1.9.0"], ["0.9.0", "2.0.0"]),
        (">= 1.2, < 1.4", ["1.2.0", "1.3.9"], ["1.1.9", "1.4.0"]),
        ("> 1.2", ["1.3.0"], ["1.2.0", "1.2.9"]),
        ("> 1.2.3", ["1.2.4-a", "1.2.4"], ["1.2.3"]),
        ("<= 1.2", ["1.2.9", "0.1.0"], ["1.3.0"]),
        ("=1.2.3", ["1.2.3"], ["1.2.2", "1.2.4"]),
        ("= 1.2", ["1.2.0", "1.2.7"], ["1.1.9", "1.3.0"]),
        ("> 2, < 1", [], ["0.5.0", "1.5.0", "3.0.0"]),
    ],
)
def test_cargo_s_requirements(requirement: str, inside: list[str], outside: list[str]) -> None:
    record = crate([requirement])
    assert not any(affected(record, "crates.io", version) for version in inside)
    assert all(affected(record, "crates.io", version) for version in outside)


def test_nothing_patched_is_all_and_everything_patched_is_none() -> None:
    assert affected(crate([]), "crates.io", "9.9.9") and affected(gem([]), "RubyGems", "0.0.1.a")
    assert not affected(crate([">= 0.0.0-0"]), "crates.io", "1.0.0")
    assert not affected(gem([">= 1"], ["< 1"]), "RubyGems", "0.5")


GEMS = st.builds(
    lambda numbers, word: ".".join([*map(str, numbers), *([word] if word else [])]),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.sampled_from(["", "", "", "a", "rc1"]),
)


def satisfies(version: str, requirement: str) -> bool:
    """``Gem::Requirement``, read directly."""
    return all(_holds(version, *part.strip().rpartition(" ")[::2]) for part in requirement.split(","))


def _holds(version: str, operator: str, bound: str) -> bool:
    mine, theirs = parse_version("RubyGems", version), parse_version("RubyGems", bound)
    assert mine is not None and theirs is not None
    if operator == "~>":
        numbers = _numbers(bound)
        kept = numbers[:-1] or numbers
        bump = parse_version("RubyGems", ".".join(map(str, [*kept[:-1], kept[-1] + 1])))
        release = parse_version("RubyGems", ".".join(map(str, _numbers(version))))
        return bool(mine >= theirs) and bool(release < bump)
    return bool(
        {">=": mine >= theirs, ">": mine > theirs, "<": mine < theirs, "<=": mine <= theirs, "=": mine == theirs}[
            operator
        ]
    )


def _numbers(version: str) -> list[int]:
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return numbers


@settings(deadline=None, max_examples=120)
@example([[("<", "0")]], "0.a")
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["~>", ">=", ">", "<", "<=", "="]), GEMS), min_size=1, max_size=2),
        max_size=4,
    ),
    GEMS,
)
def test_what_no_requirement_of_a_gem_permits_is_affected(parts: list[list[tuple[str, str]]], version: str) -> None:
    requirements = [", ".join(f"{operator} {bound}" for operator, bound in part) for part in parts]
    expected = not any(satisfies(version, requirement) for requirement in requirements)
    assert affected(gem(requirements), "RubyGems", version) == expected


@pytest.mark.parametrize(
    ("document", "form"),
    [
        (b"gem: a\npatched_versions: []\n", "yaml"),
        (b"gem: a\ncve: 2026-1\ndate: 2026-01-01\npatched_versions: ['!= 1']\n", "yaml"),
        (b"gem: a\ncve: 2026-1\ndate: 2026-01-01\npatched_versions: ['^ 1']\n", "yaml"),
        (b"gem: a\ncve: 2026-1\ndate: 2026-01-01\npatched_versions: [1]\n", "yaml"),
        (b"gem: a\ncve: 2026-1\ndate: soon\n", "yaml"),
        (b"# no front", "markdown"),
        (b"```toml\n[advisory]\n```\n", "markdown"),
        (b"```toml\nadvisory = 1\n```\n", "markdown"),
        (CRATE.replace(b"^0.10.70", b"~> 1"), "markdown"),
        (CRATE.replace(b'["^0.10.70"', b'["x"'), "markdown"),
    ],
)
def test_what_cannot_be_read_says_so(document: bytes, form: Any) -> None:
    with pytest.raises(RecordInvalid):
        read_record(document, form=form)


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=40), st.integers(0, len(CRATE)))
def test_any_damage_is_read_or_refused(noise: bytes, at: int) -> None:
    for raw, form in ((CRATE, "markdown"), (GEM.encode(), "yaml")):
        damaged = raw[:at] + noise + raw[at + len(noise) :]
        try:
            assert read_record(damaged, form=form).id  # type: ignore[arg-type]
        except RecordInvalid as error:
            assert str(error)
