"""``sbom``, ``scan`` and ``verify``: for a release of the configuration, or read-only for any image."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.chain import StageResult
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import (
    console,
    print_alerts,
    print_below,
    print_json,
    print_lines,
    rows_table,
)
from registry_pipelines.cli.references import is_release, named
from registry_pipelines.cli.releases import answer, answer_all
from registry_pipelines.errors import EvidenceError, InputError
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.report import (
    LeftOut,
    PlatformPackages,
    left_out_lines,
    own_first,
    undeclared_lines,
)

if TYPE_CHECKING:  # what scans and what verifies is loaded by the command that does
    from registry_pipelines.evidence.keys import KeySet

RELEASE_OR_IMAGE = (
    "TARGET is a release of the configuration (image:tag, image@digest, its key, or the image alone when it has one "
    "release), or any image reference, which is only read."
)


@click.command("sbom", epilog=RELEASE_OR_IMAGE)
@click.argument("target", shell_complete=IMAGES)
@click.option("--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Write CycloneDX documents here.")
@common
def sbom(options: Options, target: str, output: Path | None) -> None:
    """List what is in an image. For a release one CycloneDX 1.6 document for each platform is attached."""
    if is_release(options.config_if_any(), target):
        with options.chain() as chain:
            release = chain.find_release(target)
            result = chain.sbom(release)
            if output is not None:
                _write(output, _packages(options, chain.place(release.image), release.digest))
        answer(options, result)
        return
    with options.places([target]) as places:
        located = places.locate(target)
        packages = _packages(options, located.place, located.selector)
    if output is not None:
        _write(output, packages)
    rows: list[dict[str, Any]] = [
        {
            "platform": str(each.platform),
            "purl": component.purl,
            "ecosystem": component.ecosystem,
            "inside": component.inside,
            "image": each.manifest.digest,
            "declared": component.declared,
        }
        for each in packages
        for component in own_first(each.components)
    ]
    left_out = _left_out(packages)
    if options.as_json:
        document = {"ok": True, "digest": packages[0].subject, "components": rows}
        print_json({**document, "left_out": _rows(left_out)})
    else:
        shown = [{name: row[name] for name in row if name != "declared"} for row in rows if row["declared"]]
        print_below(f"{located.place} {packages[0].subject}", shown)
        print_lines(undeclared_lines(row["purl"] for row in rows if not row["declared"]))
        print_lines(left_out_lines(left_out))


def _left_out(packages: list[PlatformPackages]) -> list[LeftOut]:
    return list(dict.fromkeys(omitted for each in packages for omitted in each.left_out))


def _rows(left_out: list[LeftOut]) -> list[dict[str, str]]:
    return [{"what": omitted.subject, "why": omitted.reason} for omitted in left_out]


def _packages(options: Options, place: Place, selector: str) -> list[PlatformPackages]:
    from registry_pipelines.scan.sbom import scan_image

    config = options.config_if_any()
    with options.progress() as progress:
        state = config.state if config else options.state.parent
        return scan_image(place, _resolve(place, selector), state=state, progress=progress)


def _resolve(place: Place, selector: str) -> Descriptor:
    return place.registry.resolve(place.repository, selector)


def _write(folder: Path, packages: list[PlatformPackages]) -> None:
    from registry_pipelines.scan.cyclonedx import write_cyclonedx

    folder.mkdir(parents=True, exist_ok=True)
    often = Counter(str(each.platform) for each in packages)
    for each in packages:
        platform = str(each.platform)
        # Several images of one platform: none overwrites another's document.
        own = f"{platform}-{each.manifest.digest.short}" if often[platform] > 1 else platform
        name = f"{own.replace('/', '-').replace(':', '-')}.cdx.json"
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(write_cyclonedx(each))
        Path(file.name).replace(folder / name)


@click.command("scan", epilog=RELEASE_OR_IMAGE)
@click.argument("target", shell_complete=IMAGES)
@click.option(
    "--advisories",
    type=click.Path(path_type=Path),
    metavar="SOURCE",
    help="OSV records (folder, tar, zip), when TARGET is no release; those of `advisories update` unless told.",
)
@click.option("--max-age", type=click.IntRange(0), metavar="DAYS", help="Refuse advisories that are older than this.")
@common
def scan(options: Options, target: str, advisories: Path | None, max_age: int | None) -> None:
    """Find known vulnerabilities. For a release the SBOM and the report are attached and its policy's limits decide;
    for any other image the default limits do (no critical, high or unrated finding, no unknown)."""
    if is_release(options.config_if_any(), target):
        if advisories is not None or max_age is not None:
            raise InputError("a release is scanned with the configuration's advisories and judged by its policy")
        with options.chain() as chain:
            release = chain.find_release(target)
            results = [chain.sbom(release), chain.vulnerabilities(release)]
        _answer_scan(options, results)
        return
    from registry_pipelines.chain.advisories import advisory_source, alerts_about
    from registry_pipelines.promote.documents import DEFAULT_POLICY
    from registry_pipelines.promote.gate import against_limits
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import match

    with options.places([target]) as places:
        located = places.locate(target)
        packages = _packages(options, located.place, located.selector)
    state = options.state.parent
    store = AdvisoryStore.load(advisory_source(state, advisories), state)
    try:
        report = match(packages, store)
        if max_age is not None:
            store.require_younger(max_age, datetime.now(UTC))
    finally:
        store.close()
    now = datetime.now(UTC)
    outcome = against_limits(report, DEFAULT_POLICY, image="", now=now)
    age = DEFAULT_POLICY.max_advisory_age if max_age is None else timedelta(days=max_age)
    alerts = alerts_about(report, max_age=age, now=now, own_source=advisories is not None)
    left_out = _left_out(packages)
    if options.as_json:
        document = {"ok": outcome.passes, "alerts": alerts, "reasons": outcome.reasons, "accepted": outcome.accepted}
        print_json({**document, "report": json.loads(report.encode()), "left_out": _rows(left_out)})
    else:
        print_alerts(alerts)
        console().print(f"{located.place} {report.subject}", markup=False)
        console().print(
            f"advisories of {report.advisories.newest}, {count_text(report.advisories.records, 'record')}", markup=False
        )
        for covered in report.coverage:
            counted = f"{count_text(covered.components, 'component')}, {count_text(covered.records, 'record')}"
            console().print(f"{covered.ecosystem}: {counted} until {covered.newest}", markup=False)
        print_lines([*outcome.reasons, *outcome.accepted])
        print_lines(left_out_lines(left_out))
        console().print(
            f"{count_text(report.components, 'component')}, {count_text(len(report.findings), 'finding')}", markup=False
        )
    if not outcome.passes:
        sys.exit(EvidenceError.exit_code)


def _answer_scan(options: Options, results: list[StageResult]) -> None:
    findings = [row for row in results[-1].rows if not row["suppressed"]]
    if not options.as_json:
        print_alerts(results[-1].alerts)
        results = [replace(result, alerts=()) for result in results]
        if findings:
            console().print(rows_table([{name: row[name] for name in _FINDING_COLUMNS} for row in findings]))
    answer_all(options, results)


_FINDING_COLUMNS = ("severity", "component", "ids", "fixed")


@click.command("verify", epilog=RELEASE_OR_IMAGE)
@click.argument("target", shell_complete=IMAGES)
@click.option(
    "--key",
    "keys",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="PEM public key to believe; the configuration's trusted keys unless told.",
)
@common
def verify(options: Options, target: str, keys: tuple[Path, ...]) -> None:
    """Check that a trusted key signed exactly this image, and list the attestations that are believed."""
    if is_release(options.config_if_any(), target) and not keys:
        with options.chain() as chain:
            result = chain.verify(chain.find_release(target))
        answer(options, result)
        return
    from registry_pipelines.evidence.attestations import read_attestations
    from registry_pipelines.sign.cosign import verify_image

    trusted = _trusted(options, keys)
    with named(options, [target]) as locate:
        located = locate(target)
        subject = _resolve(located.place, located.selector)
        known = read_attestations(located.place, subject.digest, trusted)
        image = verify_image(located.place, subject.digest, trusted, known=known)
    rows: list[dict[str, Any]] = [
        {"kind": f"signature ({each.form})", "identity": each.identity, "key": each.key_id} for each in image.signatures
    ]
    rows += [{"kind": each.predicate_type, "identity": "", "key": each.key_id} for each in known.verified]
    if options.as_json:
        print_json({"ok": True, "digest": subject.digest, "verified": rows})
    else:
        print_below(f"{located.place} {subject.digest}", rows)


def _trusted(options: Options, keys: tuple[Path, ...]) -> KeySet:
    from registry_pipelines.evidence.keys import load_verifier

    if keys:
        return load_verifier(keys)
    config = options.config_if_any()
    if config is None:
        raise InputError("no trusted key is named", do="Give --key FILE, or a configuration with signing.trusted")
    return trusted_keys(config)


COMMANDS = [sbom, scan, verify]
