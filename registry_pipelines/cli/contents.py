"""``sbom``, ``scan`` and ``verify``: for a release of the configuration, or read-only for any image."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.chain import StageResult
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.cli.context import BELIEVED_KEYS, Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import (
    console,
    print_alerts,
    print_below,
    rows_table,
)
from registry_pipelines.cli.references import is_release, named
from registry_pipelines.cli.releases import answer, answer_all
from registry_pipelines.errors import EvidenceMissing, InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.report import (
    PlatformPackages,
)

if TYPE_CHECKING:  # what scans and what verifies is loaded by the command that does
    from registry_pipelines.evidence.keys import KeySet
    from registry_pipelines.evidence.notation.trust import Trust

RELEASE_OR_IMAGE = (
    "TARGET is a release of the configuration (image:tag, image@digest, its key, or the image alone when it has one "
    "release), or any image reference, which is only read."
)


@click.command("sbom", epilog=RELEASE_OR_IMAGE)
@click.argument("target", shell_complete=IMAGES)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write the documents into this folder, one for each image of the release.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["cyclonedx", "spdx"]),
    default="cyclonedx",
    help="Of the documents of --output and --attest: CycloneDX 1.6 (the default) or SPDX 2.3.",
)
@click.option("--attest", is_flag=True, help="With --format spdx: sign these documents, too, and attach them.")
@common
def sbom(options: Options, target: str, output: Path | None, form: str, attest: bool) -> None:
    """List what is in an image. For a release one CycloneDX 1.6 document for each platform is attached."""
    if form == "spdx" and output is None and not attest:
        raise InputError("--format spdx is about documents", do="Say where they go: --output FOLDER, --attest")
    if form == "cyclonedx" and attest:
        raise InputError("a release's CycloneDX documents are signed without being asked", do="Add --format spdx")
    if is_release(options.config_if_any(), target):
        with options.chain() as chain:
            release = chain.find_release(target)
            result = chain.sbom(release)
            attested = chain.attest_spdx(release) if attest else None
            if output is not None:
                _write(output, _packages(options, chain.place(release.image), release.digest), form)
        if attested is None:
            answer(options, result)
        else:
            answer_all(options, [result, attested])
        return
    if attest:
        raise InputError("only what is attached to a release is signed", do="Name a release of the configuration")
    from registry_pipelines.chain.scan import listed_only

    with options.places([target]) as places:
        located = places.locate(target)
        packages = _packages(options, located.place, located.selector)
        subject = _resolve(located.place, packages[0].subject)
        result = listed_only(located.place, subject, packages)
    if output is not None:
        _write(output, packages, form)
    answer(options, result)


def _packages(options: Options, place: Place, selector: str) -> list[PlatformPackages]:
    from registry_pipelines.scan.sbom import scan_image

    config = options.config_if_any()
    with options.progress() as progress:
        state = config.state if config else options.state.parent
        return scan_image(place, _resolve(place, selector), state=state, progress=progress)


def _resolve(place: Place, selector: str) -> Descriptor:
    return place.registry.resolve(place.repository, selector)


def _write(folder: Path, packages: list[PlatformPackages], form: str) -> None:
    from registry_pipelines.scan.cyclonedx import write_cyclonedx
    from registry_pipelines.scan.spdx import write_spdx

    write, suffix = (write_spdx, "spdx") if form == "spdx" else (write_cyclonedx, "cdx")
    folder.mkdir(parents=True, exist_ok=True)
    often = Counter(str(each.platform) for each in packages)
    for each in packages:
        platform = str(each.platform)
        # Several images of one platform: none overwrites another's document.
        own = f"{platform}-{each.manifest.digest.short}" if often[platform] > 1 else platform
        name = f"{own.replace('/', '-').replace(':', '-')}.{suffix}.json"
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(write(each))
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
    any other image is only read, and the default limits decide (no critical, high or unrated finding, no unknown)."""
    if is_release(options.config_if_any(), target):
        if advisories is not None or max_age is not None:
            raise InputError("a release is scanned with the configuration's advisories and judged by its policy")
        with options.chain() as chain:
            release = chain.find_release(target)
            results = [chain.sbom(release), chain.vulnerabilities(release)]
    else:
        results = _scan_only(options, target, advisories, max_age)
    if not options.as_json:
        _show_findings(results)
    answer_all(options, [replace(result, alerts=()) for result in results] if not options.as_json else results)


def _scan_only(options: Options, target: str, advisories: Path | None, max_age: int | None) -> list[StageResult]:
    from registry_pipelines.chain.scan import listed_only, matched_only

    with options.places([target]) as places:
        located = places.locate(target)
        packages = _packages(options, located.place, located.selector)
        listed = listed_only(located.place, _resolve(located.place, packages[0].subject), packages)
    found = matched_only(
        located.place, packages, state=options.state.parent, advisories=advisories, max_age_days=max_age
    )
    return [listed, found]


def _show_findings(results: list[StageResult]) -> None:
    """What comes first of a scan: alerts, whether anything was stored, and the findings."""
    print_alerts(results[-1].alerts)
    policy = results[-1].facts["policy"]
    if results[-1].facts["attached"]:
        said = f"SBOM and report are attached to the release; policy `{policy}` sets the limits"
    else:
        said = "only read: nothing is attached, because no image of the configuration is named; the default limits hold"
    console().print(said, markup=False, soft_wrap=True)
    findings = [row for row in results[-1].rows if not row["suppressed"]]
    if findings:
        console().print(rows_table([{name: row[name] for name in _FINDING_COLUMNS} for row in findings]))


_FINDING_COLUMNS = ("severity", "component", "ids", "fixed")


@click.command("verify", epilog=RELEASE_OR_IMAGE)
@click.argument("target", shell_complete=IMAGES)
@BELIEVED_KEYS
@click.option(
    "--notation",
    is_flag=True,
    help="Ask a Notation trust policy, the configuration's or that of `notation` here, and keys only where --key names "
    "some.",
)
@common
def verify(options: Options, target: str, keys: tuple[Path, ...], notation: bool) -> None:
    """Check that a trusted key signed exactly this image, and list the attestations that are believed."""
    if is_release(options.config_if_any(), target) and not keys and not notation:
        with options.chain() as chain:
            result = chain.verify(chain.find_release(target))
        answer(options, result)
        return
    trust = _notation_trust(options) if notation else None
    trusted = _trusted(options, keys) if keys or not notation else None
    rows: list[dict[str, Any]] = []
    remarks: list[str] = []
    with named(options, [target]) as locate:
        located = locate(target)
        subject = _resolve(located.place, located.selector)
        if trust:
            rows, remarks = _by_certificate(located.place, subject, trust)
        if trusted:
            rows += _by_key(located.place, subject.digest, trusted)
    if options.as_json:
        print_json({"digest": subject.digest, "verified": rows, "remarks": remarks})
    else:
        print_below(f"{located.place} {subject.digest}", rows)
        for remark in remarks:
            click.echo(remark)


def _by_key(place: Place, digest: Digest, trusted: KeySet) -> list[dict[str, Any]]:
    from registry_pipelines.evidence.attestations import read_attestations
    from registry_pipelines.sign.cosign import verify_image

    known = read_attestations(place, digest, trusted)
    image = verify_image(place, digest, trusted, known=known)
    rows: list[dict[str, Any]] = [
        {"kind": f"signature ({each.form})", "identity": each.identity, "key": each.key_id} for each in image.signatures
    ]
    return rows + [{"kind": each.predicate_type, "identity": "", "key": each.key_id} for each in known.verified]


def _by_certificate(place: Place, subject: Descriptor, trust: Trust) -> tuple[list[dict[str, Any]], list[str]]:
    from registry_pipelines.evidence.revocation import Revocations
    from registry_pipelines.sign.notation import verify_notation

    found = verify_notation(place, subject, trust, revocation=Revocations())
    if not found.signatures:
        raise EvidenceMissing(found.remarks()[0], where=f"{place}@{subject.digest}", do="Choose another level for it")
    rows = [
        {"kind": row["kind"], "identity": row["key"], "key": each.thumbprint}
        for row, each in zip(found.rows(), found.signatures, strict=True)
    ]
    return rows, found.remarks()


def _notation_trust(options: Options) -> Trust:
    from registry_pipelines.evidence.notation.trust import notation_folder, read_trust

    config = options.config_if_any()
    own = config.signing.notation if config else None
    return read_trust(own.trust if own and own.trust else notation_folder())


def _trusted(options: Options, keys: tuple[Path, ...]) -> KeySet:
    from registry_pipelines.evidence.keys import load_verifier

    if keys:
        return load_verifier(keys)
    config = options.config_if_any()
    if config is None:
        raise InputError("no trusted key is named", do="Give --key FILE, or a configuration with signing.trusted")
    return trusted_keys(config)


COMMANDS = [sbom, scan, verify]
