"""The policy that nobody wrote: what passes it, what is said where something does not, and what to do then."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.cli import main
from registry_pipelines.config import Advisories, load
from registry_pipelines.errors import PromotionDenied
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, attach_provenance
from tests.doubles import osv_export
from tests.needs import missing
from tests.ports import free_ports
from tests.scan.images import ELF, push_image

SITE = "usr/local/lib/python3.11/site-packages"
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
UNFIXED = osv_export.debian("CVE-2023-45853", "zlib", {"12": ""}) | {
    "severity": [{"type": "CVSS_V3", "score": CRITICAL}]
}
"""As Debian 12 really has it: CRITICAL by its vector, and no fix, since the part in question is not built."""
BASE = {"zlib1g": "1:1.2.13.dfsg-1", "libc6": "2.36-9+deb12u14", "libssl3": "3.0.19-1~deb12u2"}
SOURCES = {"zlib1g": "zlib", "libc6": "glibc", "libssl3": "openssl"}


def base_files() -> dict[str, bytes | str]:
    """What base `python` brings, in its layout: distribution packages by name, CPython, and libraries of no package."""
    files: dict[str, bytes | str] = {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "usr/local/bin/python3.11": ELF + b"3.11.9\0",
        f"{SITE}/numpy.libs/libscipy_openblas64_.so": ELF,
    }
    for name, version in BASE.items():
        source = f"Package: {name}\nSource: {SOURCES[name]}\nVersion: {version}\nArchitecture: amd64\n"
        files[f"var/lib/dpkg/status.d/{name}"] = f"{source}Maintainer: x <x@debian.org>\n"
    return files


def wheel_files(**versions: str) -> dict[str, bytes | str]:
    return {
        f"{SITE}/{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        for name, version in versions.items()
    }


def release(fleet: Fleet, tag: str, **versions: str) -> Release:
    place = fleet.chain.place("tool")
    made = push_image(place, [base_files(), wheel_files(**versions)], tag=tag)
    attach_provenance(place, made)
    return Release("tool", tag, made.digest)


def through(chain: Chain, wanted: Release) -> dict[str, StageResult]:
    """Scan, sign and judge."""
    stages = (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge)
    return {result.stage: result for result in (stage(wanted) for stage in stages)}


def export(fleet: Fleet, *records: osv_export.Record) -> None:
    """The advisories of the fleet: an export of today, of Debian and PyPI."""
    (fleet.folder / "advisories" / "TEST-2026-1.json").unlink()
    osv_export.write(fleet.folder / "advisories", [*osv_export.small_set(), *records], names=r".*/all\.zip")


def test_numpy_and_pandas_on_the_interpreter_base_pass_with_advisories_of_today(fleet: Fleet) -> None:
    """Nothing that the base brings denies: neither what Debian has not fixed nor what no package list names."""
    export(fleet, UNFIXED)
    wanted = release(fleet, "v1", numpy="2.4.6", pandas="3.1.1")
    found = through(fleet.chain, wanted)
    judged = found["judge"]
    assert judged.ok and judged.next_steps == [], judged.reasons
    assert found["vulnerabilities"].ok and found["vulnerabilities"].next_steps == []
    unfixed, undeclared = judged.reasons
    assert unfixed == "accepted: unfixed: 1 finding (1 CRITICAL) in zlib1g: the distribution has published no fix"
    assert undeclared.startswith("accepted: undeclared: 2 libraries and programs")
    assert fleet.chain.promote(wanted).changed
    image = [f"{fleet.chain.place('tool')}:v1", "--advisories", str(fleet.folder / "advisories")]
    alone = CliRunner().invoke(main, ["scan", *image, "--config", str(fleet.path)])  # said of any image that is scanned
    assert alone.exit_code == 0 and f"{unfixed.removeprefix('accepted: ')}\n" in alone.stdout, alone.output
    strict = fleet.reload(("signing:", "policies: {default: {unfixed_by_distribution: deny}}\nsigning:"))
    assert not strict.judge(wanted).ok


def test_a_denial_is_about_the_image_and_says_what_to_do_in_order(fleet: Fleet) -> None:
    openssl = osv_export.debian("CVE-2026-2", "openssl", {"12": "3.0.20-1"})
    export(fleet, UNFIXED, openssl, *osv_export.pypi("pandas", "2026-1", fixed="3.1.2", vector=CRITICAL))
    crate = {"bomFormat": "CycloneDX", "specVersion": "1.6"} | {
        "components": [{"type": "library", "name": name, "purl": f"pkg:{name}/x@1"} for name in ("cargo", "conda")]
    }
    place = fleet.chain.place("tool")
    sbom = {f"{SITE}/pandas-3.1.1.dist-info/sboms/x.cdx.json": json.dumps(crate)}
    made = push_image(place, [base_files(), wheel_files(pandas="3.1.1") | sbom], tag="v1")
    found = through(fleet.chain, wanted := Release("tool", "v1", made.digest))
    reasons, steps = found["judge"].reasons, found["judge"].next_steps
    assert [re.split("[ :]", reason)[0] for reason in reasons] == [
        *("CRITICAL", "UNKNOWN"),  # findings, then evidence, then what nobody could tell
        *("SLSA", "uncovered", "uncovered"),
    ]
    assert "pkg:pypi/pandas@3.1.1" in reasons[0] and "pkg:deb/debian/libssl3@3.0.19-1~deb12u2: " in reasons[1]
    source, config = fleet.folder / "advisories", f"--config {fleet.path}"
    assert steps == [
        f"Put advisories of today, and those of crates.io into {source} (`advisories.source`)",
        "Where you take the risk, write into `policies.default.accept_unknowns`: "
        '{kind: uncovered, subject: "pkg:conda/*", reason: WHY}',
        "Push a new release of tool in which this is put right: pandas 3.1.1 (fixed in 3.1.2), "
        "libssl3 3.0.19-1~deb12u2 (fixed in 3.0.20-1)",
        "Have the builder of tool attach SLSA provenance, or leave it out of `policies.default.required`",
        f"registry-pipelines ship tool:NEW_VERSION --until judge {config}",
    ]
    assert found["vulnerabilities"].next_steps == [
        *steps[:3],
        f"registry-pipelines ship tool:NEW_VERSION --until scan {config}",
    ]
    with pytest.raises(PromotionDenied) as caught:
        fleet.chain.promote(wanted)
    last = f"registry-pipelines ship tool:NEW_VERSION --until promote {config}"
    assert caught.value.next_steps == [*steps[:-1], last]
    assert f"Do this, in this order:\n  1. {steps[0]}\n" in str(caught.value)
    assert str(caught.value).endswith(f"\n  5. {last}")


def test_missing_advisories_are_loaded_and_scanned_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the set that comes with the package nothing passes: it is old, and of Python packages alone."""
    monkeypatch.chdir(fleet.folder)
    own = "advisories: {source: advisories}\n"
    chain = fleet.reload((own, ""))
    wanted = release(fleet, "v1", numpy="2.4.6")
    [judge_alone] = chain.judge(wanted).next_steps
    assert judge_alone == "registry-pipelines ship tool:v1 --until judge"
    judged = through(chain, wanted)["judge"]
    assert [reason.partition(":")[0] for reason in judged.reasons] == ["advisories", "uncovered"]
    last = "registry-pipelines ship tool:v1 --until judge"
    what = "advisories of today, and those of Debian:12"
    assert judged.next_steps == [f"registry-pipelines advisories update  # {what}", last]
    cut_off = fleet.reload(("signing:", "advisories: {feed: null}\nsigning:")).judge(wanted).next_steps
    assert cut_off[0] == f"registry-pipelines advisories import FILE  # {what}, exported where they can be fetched"


def test_what_a_build_of_ours_changes_is_told_by_its_section(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base's parts come from the machine, or from another image; the wheels from the section itself."""
    openssl = osv_export.debian("CVE-2026-2", "openssl", {"12": "3.0.20-1"})
    export(fleet, openssl, *osv_export.pypi("pandas", "2026-1", fixed="3.1.2", vector=CRITICAL))
    wanted = release(fleet, "v1", pandas="3.1.1")
    monkeypatch.chdir(fleet.folder)
    image = "tool: {registry: us, repository: team/tool, channel: stable"
    ours = fleet.reload((image, f"{image}, build: {{version: v1, requirements: [pandas]}}"))
    steps = through(ours, wanted)["judge"].next_steps
    assert steps == [
        "Update the machine that builds (base `python` is made of its files): "
        "libssl3 3.0.19-1~deb12u2 (fixed in 3.0.20-1)",
        "In `images.tool.build` set a new `version`, and put right: pandas 3.1.1 (fixed in 3.1.2)",
        "registry-pipelines ship tool --until judge",
    ]
    shipped = ours.ship("tool:v1", until="mirror")
    assert shipped.denied_at == "judge" and shipped.next_steps == [*steps[:2], "registry-pipelines ship tool"]
    other = fleet.reload(("build: {version: v1,", "build: {version: v1, base: 'us/bases/python:3.11',"))
    assert other.judge(wanted).next_steps[0].startswith("Take a newer base than us/bases/python:3.11: libssl3")


def test_what_nobody_has_fixed_is_excepted_for_a_time_or_goes(fleet: Fleet) -> None:
    wheel = osv_export.pypi("pandas", "2026-1", fixed="9", introduced="0", vector=CRITICAL)
    for record in wheel:
        record["affected"][0]["ranges"][0]["events"] = [{"introduced": "0"}]
    export(fleet, *wheel)
    [step, *_] = through(fleet.chain, release(fleet, "v1", pandas="3.1.1"))["judge"].next_steps
    assert step.startswith(
        "Nobody has fixed these: do without the package, or write into `policies.default.exceptions`: "
    )
    assert '{advisory: CVE-2026-1, component: "pkg:pypi/pandas@*", owner: WHO, reason: WHY, expires: DAY}' in step


def test_a_reworded_reason_keeps_no_copy_from_leaving_and_a_changed_rule_says_judge(fleet: Fleet) -> None:
    excuse = "{advisory: CVE-2026-1, owner: sec, reason: ticket 1, expires: 2099-01-31}"
    policies = f"policies: {{default: {{exceptions: [{excuse}]}}}}\nsigning:"
    chain = fleet.reload(("signing:", policies))
    wanted = release(fleet, "v1", pandas="3.1.1")
    fleet = Fleet(fleet.path, chain.config, chain)
    export(fleet, *osv_export.pypi("pandas", "2026-1", fixed="3.1.2", vector=CRITICAL))
    assert through(chain, wanted)["judge"].ok
    chain.promote(wanted)
    [accepted, _] = fleet.reload(("ticket 1", "ticket 1 and the wiki")).require_promoted(wanted)
    assert accepted.endswith("until 2099-01-31, for which sec answers: ticket 1")  # what was signed
    stricter = fleet.reload(("2099-01-31", "2098-01-31"))
    with pytest.raises(PromotionDenied, match=r"policy default was changed since it was made") as caught:
        stricter.require_promoted(wanted)
    assert caught.value.next_steps == [f"registry-pipelines judge tool:v1 --config {fleet.path}"]


OWN = """\
registries: {{local: {{kind: embedded, port: {port}}}}}
images:
  analyst:
    registry: local
    repository: ml/analyst
    build: {{version: v1, requirements: [numpy, pandas]}}
signing: {{generate: true}}
advisories: {{source: {source}}}
"""


def built_from_the_index(folder: Path, source: Path) -> tuple[Chain, Release]:
    path = folder / "registry-pipelines.yaml"
    path.write_text(OWN.format(port=free_ports(1)[0], source=source))
    chain = Chain(load(path, {}))
    with ensure_registries(chain.config):
        return chain, Release.parse(str(chain.build("analyst").facts["release"]))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("real", [False, True], ids=["double", "real export"])
def test_a_real_build_of_numpy_and_pandas_passes(tmp_path: Path, real: bool) -> None:
    """From the public index, on this machine's own base, with the double's advisories and with OSV's own where its
    export can be reached. There only what this machine and the index have behind them may deny: what has a fix."""
    folder = tmp_path / "osv"
    if real:
        download(folder)
    else:
        osv_export.write(folder, [*osv_export.small_set(), UNFIXED], names=r".*/all\.zip")
    chain, wanted = built_from_the_index(tmp_path, folder)
    with ensure_registries(chain.config):
        judged = through(chain, wanted)["judge"]
        assert judged.ok or (real and all("; fixed in " in reason for reason in judged.reasons)), judged.reasons
        assert not judged.ok or chain.promote(wanted).changed


def download(folder: Path) -> None:
    """Debian and PyPI of OSV's real export, some 250 MB."""
    for ecosystem in ("Debian", "PyPI"):
        (folder / ecosystem).mkdir(parents=True)
        url = f"{Advisories().feed}/{ecosystem}/all.zip"
        try:
            urllib.request.urlretrieve(url, folder / ecosystem / "all.zip")
        except OSError as error:
            missing(f"OSV's export cannot be reached from here: {error}")
