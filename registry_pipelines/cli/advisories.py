"""``advisories``: what scans compare with; fetched, carried across, and how old it is."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import show_result
from registry_pipelines.cli.releases import answer


@click.group("advisories")
def advisories_group() -> None:
    """Fetch what scans compare with, and say how old it is."""


@advisories_group.command("update", short_help="Fetch what is new for what the images hold.")
@click.option(
    "--ecosystem", "ecosystems", multiple=True, metavar="NAME", help="Also this one, as PyPI or Debian; repeatable."
)
@common
def update(options: Options, ecosystems: tuple[str, ...]) -> None:
    """Fetch what is new: of OSV's export the ecosystems that the images' SBOMs name.

    An interrupted update goes on where it was; until it is whole the set before is used. Malicious packages (MAL-) are
    part of each ecosystem.
    """
    from registry_pipelines.chain.advisory_sets import fetched

    if options.config_if_any() is not None:
        with options.chain() as chain:
            result = chain.update_advisories(ecosystems)
    else:
        with options.progress() as progress:
            state = options.state.parent
            result = fetched(state, ecosystems, now=datetime.now(UTC), progress=progress)
    answer(options, result)


@advisories_group.command("status")
@common
def status(options: Options) -> None:
    """Show which advisories are used, their age and their digest. Exit code 3: older than a policy permits."""
    from registry_pipelines.chain.advisory_sets import standing

    config = options.config_if_any()
    answer(options, standing(options.state.parent, now=datetime.now(UTC), config=config))


@advisories_group.command("export", short_help="Write the set in use to one file, for an air gap.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@common
def export(options: Options, file: Path) -> None:
    """Write the set in use to one FILE, for the other side of an air gap."""
    from registry_pipelines.chain.advisory_sets import exported

    config = options.config_if_any()
    answer(options, exported(options.state.parent, file, now=datetime.now(UTC), config=config))


@advisories_group.command("import", short_help="Use the set of an exported file, or of OSV's all.zip.")
@click.argument("files", nargs=-1, required=True, metavar="FILE | ECOSYSTEM=FILE...")
@click.option("--digest", metavar="SHA256", help="The sha256 that FILE must have, as `export` said it.")
@common
def import_set(options: Options, files: tuple[str, ...], digest: str | None) -> None:
    """Use the set of an exported FILE; or take all.zip files of OSV's export that were fetched by hand.

    Everything is checked before anything is used. Other ecosystems stay as they are when archives are imported.
    """
    from registry_pipelines.chain.advisory_sets import imported
    from registry_pipelines.oci.digest import Digest

    wanted = Digest.parse(digest if ":" in digest else f"sha256:{digest}") if digest else None
    config = options.config_if_any()
    answer(options, imported(options.state.parent, files, now=datetime.now(UTC), digest=wanted, config=config))


@advisories_group.command("push", short_help="Store the set in use in a registry, signed.")
@click.argument("reference", metavar="REFERENCE")
@common
def push(options: Options, reference: str) -> None:
    """Store the whole set in use at REFERENCE (REGISTRY/REPOSITORY:TAG), signed by the scanner's key.

    It crosses an air gap as an artifact of a mirror (`artifacts`). Files that are there already are not sent again, and
    the tag never moves to an older set.
    """
    with options.chain() as chain:
        result = chain.push_advisories(reference)
    answer(options, result)


@advisories_group.command("pull", short_help="Use the set that was pushed to a registry.")
@click.argument("reference", metavar="REFERENCE")
@common
def pull(options: Options, reference: str) -> None:
    """Use the set at REFERENCE, once a key that is believed for scans vouches for it.

    Everything is checked before anything is used. An older set than the one in use is left. Exit 3: nobody who is
    believed vouches for it.
    """
    with options.chain() as chain:
        result = chain.pull_advisories(reference)
    answer(options, result)


@click.command("rescan")
@click.argument("images", nargs=-1, metavar="[IMAGE]...", shell_complete=IMAGES)
@click.option("--bucket", metavar="00..ff", help="Only images whose repository has this hash, one of 256.")
@click.option(
    "--all", "everything", is_flag=True, help="Also releases that were matched with the same advisories before."
)
@common
def rescan(options: Options, images: tuple[str, ...], bucket: str | None, everything: bool) -> None:
    """Match new advisories with what is released; no layer is read.

    All images unless named. The attached SBOMs are compared with the advisories that are there now; where that says
    something new a report is attached and signed, as by `scan`. Who is named in `notify` is told of promoted releases
    that became vulnerable. Exit 3: there is one. Exit 7: a registry cannot be read. Exit 6: something in it cannot.
    """
    from registry_pipelines.chain.buckets import BUCKETS

    if bucket is not None and bucket not in BUCKETS:
        raise click.BadParameter("a bucket is two hexadecimal digits, 00 to ff", param_hint="--bucket")
    with options.chain() as chain:
        result = chain.rescan(images, bucket=bucket or "", everything=everything)
    show_result(result, as_json=options.as_json)
    if result.exit_code:
        sys.exit(result.exit_code)


COMMANDS = [advisories_group, rescan]
