"""``lint``: what an image or its Dockerfile should do otherwise, with the bytes and the line to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, print_findings
from registry_pipelines.cli.references import named
from registry_pipelines.cli.releases import answer
from registry_pipelines.errors import EvidenceError, InputError
from registry_pipelines.oci.files import write_file
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.settings import Size, closest

if TYPE_CHECKING:
    from registry_pipelines.anatomy.lint.lint import Lint
    from registry_pipelines.anatomy.report import Anatomy
    from registry_pipelines.scan.advice.document import Advice


@click.command("lint")
@click.argument("reference", required=False, default="", shell_complete=IMAGES)
@click.option(
    "--dockerfile",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Read this Dockerfile; with an image, too, its lines get the bytes of the layers that they made.",
)
@click.option("--target", default="", metavar="STAGE", help="The stage that becomes the image; the last unless told.")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="A build argument; several times.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Of the image; this machine's unless told.")
@click.option("--sarif", type=click.Path(path_type=Path), metavar="FILE", help="Write SARIF 2.1.0 for code scanning.")
@click.option(
    "--fail-on",
    multiple=True,
    metavar="WHAT",
    help="End with 3 for a kind (`pip-cache`), a severity and all above it (`error`, `warning`, `note`), or more "
    "wasted bytes than a size (`100MB`); several times.",
)
@click.option(
    "--attest",
    is_flag=True,
    help="Sign what is found in all images of a release as the scanner, attach it, and say what the policy denies.",
)
@common
def lint(
    options: Options,
    reference: str,
    dockerfile: Path | None,
    target: str,
    args: tuple[str, ...],
    platform: str,
    sarif: Path | None,
    fail_on: tuple[str, ...],
    attest: bool,
) -> None:
    """Say what an image or its Dockerfile should do otherwise: bytes that need not be there, secrets, order,
    bases; each with why and what to write. It ends with 0 whatever it finds, unless --fail-on says otherwise."""
    if not reference and dockerfile is None:
        raise click.UsageError("give an image, --dockerfile FILE, or both")
    if reference and Path(reference).is_file():
        raise click.UsageError(f"{reference} is a file; give it as --dockerfile {reference}")
    if (target or args) and dockerfile is None:
        raise click.UsageError("--target and --build-arg go with --dockerfile")
    if platform and not reference:
        raise click.UsageError("--platform goes with an image")
    if attest:
        if not reference or dockerfile or sarif or fail_on or platform:
            raise click.UsageError("--attest goes with a release alone: all its images are looked into")
        _attest(options, reference)
        return
    limits = _Limits(fail_on, image=bool(reference))
    found = _linted(options, reference, dockerfile, target, _arguments(args), platform)
    if sarif is not None:
        from registry_pipelines.anatomy.lint.sarif import write_sarif

        write_file(sarif, write_sarif(found))
    if options.as_json:
        print_json(json.loads(encode_json(found)))
    else:
        _show(found)
    if against := limits.against(found):
        raise EvidenceError(
            f"--fail-on: {'; '.join(against)}", where=found.image or found.dockerfile, do="Change what the table says"
        )


def _attest(options: Options, reference: str) -> None:
    with options.chain() as chain:
        result = chain.image_advice(chain.find_release(reference))
    if not result.facts["signed"]:
        raise InputError(
            "the scanner's key is not on this machine, so nothing was signed",
            where=reference,
            do="Run it where the key of `signing` is",
        )
    answer(options, result)


def _linted(
    options: Options, reference: str, dockerfile: Path | None, target: str, args: dict[str, str], platform: str
) -> Lint:
    image = _anatomy(options, reference, platform) if reference else None
    from registry_pipelines.anatomy.lint.lint import lint as lint_all  # what is wrong with the reference comes first

    return lint_all(image=image, dockerfile=dockerfile, target=target, args=args)


def _anatomy(options: Options, reference: str, platform: str) -> Anatomy:
    with named(options, [reference]) as locate:
        located = locate(reference)
        from registry_pipelines.anatomy.anatomy import LINK_GBIT
        from registry_pipelines.cli.anatomy import anatomy_of

        return anatomy_of(
            options, located.place, located.selector, platform=platform, link_gbit=LINK_GBIT, all_files=True
        )


def _arguments(texts: tuple[str, ...]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise InputError(f"--build-arg {text}: it has no value", do="Write NAME=VALUE")
    return dict(text.partition("=")[::2] for text in texts)


class _Limits:
    """What ``--fail-on`` says. Raises InputError for what is no kind, severity or size."""

    def __init__(self, texts: tuple[str, ...], *, image: bool) -> None:
        from registry_pipelines.scan.advice.kinds import DOCKERFILE_RULES, KINDS, SEVERITIES

        self._severities = SEVERITIES
        self._kinds: list[str] = []
        self._worst = -1
        self._bytes: Size | None = None
        kinds = (*KINDS, *DOCKERFILE_RULES)
        for text in texts:
            if text in SEVERITIES:
                self._worst = max(self._worst, SEVERITIES.index(text))
            elif text in kinds:
                self._kinds.append(text)
            else:
                self._bytes = self._size(text, kinds)
        if self._bytes is not None and not image:
            raise InputError("--fail-on with a size wants an image: a Dockerfile alone has no bytes")

    def _size(self, text: str, kinds: tuple[str, ...]) -> Size:
        try:
            size = Size.parse(text)
        except ValueError as error:
            near = closest(text, kinds)
            do = f"Did you mean {near}?" if near else "Write a kind of docs/lint.md, error, warning, note, or 100MB"
            raise InputError(f"--fail-on {text}: no kind, severity or size", do=do) from error
        return size if self._bytes is None else min(size, self._bytes)

    def against(self, found: Lint) -> list[str]:
        """Why it is to fail; empty: it is not."""
        rows = [each for each in found.findings if self._counts(each)]
        names = dict.fromkeys(each.kind for each in rows)
        reasons = [f"{count_text(len(rows), 'finding')} of {', '.join(names)}"] if rows else []
        if self._bytes is not None and found.wasted > self._bytes:
            reasons.append(f"{size_text(found.wasted)} need not be there, more than {self._bytes}")
        if found.unread and (self._bytes is not None or self._kinds or self._worst >= 0):
            reasons.append(f"not all of it was looked at: {found.unread[0]}")
        return reasons

    def _counts(self, each: Advice) -> bool:
        return each.kind in self._kinds or self._severities.index(each.severity) <= self._worst


def _show(found: Lint) -> None:
    out = console()
    wasted = f"{size_text(found.wasted)} of {size_text(found.compressed)} need not be there" if found.image else ""
    lines = f"{count_text(found.matched, 'line')} with its layer" if found.image and found.dockerfile else ""
    for line in (found.image, found.dockerfile, wasted, lines, *(f"not looked at: {each}" for each in found.unread)):
        if line:
            out.print(line, markup=False, soft_wrap=True)
    rows = [_row(each, found) for each in found.findings]
    if rows:
        print_findings(count_text(len(rows), "finding"), rows)
    else:
        out.print("nothing to say", markup=False)


def _row(each: Advice, found: Lint) -> dict[str, Any]:
    row: dict[str, Any] = {"how bad": each.severity, "what": each.kind}
    if found.dockerfile:
        row["line"] = each.line or ""
    if found.image:
        row["compressed"] = size_text(each.compressed) if each.compressed else ""
        row["layers"] = ", ".join(map(str, each.layers))
    return {**row, "why": each.why, "do": each.do, "example": each.examples[0] if each.examples else ""}


COMMANDS = [lint]
