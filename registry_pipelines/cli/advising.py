"""``advise``: where nodes should pull from."""

from __future__ import annotations

import re
from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import console, print_lines, rows_table
from registry_pipelines.cli.references import whole
from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import write_file
from registry_pipelines.progress import size_text

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)?\Z")
_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}


@click.command("advise", short_help="Say where nodes should pull an image from, with the arithmetic of its traffic.")
@click.argument("source", metavar="IMAGE|REGISTRY|HOST")
@click.option(
    "--nodes", "region", required=True, metavar="REGION", help="Region of the nodes: eu-west-1, europe-west1."
)
@click.option("--pulls", default=40.0, metavar="N", type=float, help="Pulls a day by nodes that lack it, in all; 40.")
@click.option("--releases", default=20.0, metavar="N", type=float, help="Releases a month; 20 unless told.")
@click.option("--size", default="", metavar="SIZE", help="Compressed size, as 6GB; read from the image unless told.")
@click.option("--public", is_flag=True, help="The nodes have public addresses: no NAT.")
@click.option("--platform", default="linux/amd64", metavar="OS/ARCH", help="Platform whose size is read.")
@click.option("--prices", type=click.Path(path_type=Path), metavar="FILE", help="A price book of your own (JSON).")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Write the picture here.")
@common
def advise(
    options: Options,
    source: str,
    region: str,
    pulls: float,
    releases: float,
    size: str,
    public: bool,
    platform: str,
    prices: Path | None,
    svg: Path | None,
) -> None:
    """Say where nodes should pull an image from, with the arithmetic of its traffic: straight, or by a replica in their
    own region, past NAT or through it. IMAGE may be a release of the configuration.

    The prices that come with it are list prices of third parties, dated; those with ? differ between sources. --prices
    takes a book of your own, for your regions and discounts.
    """
    from registry_pipelines.chain.advise import advise_on
    from registry_pipelines.report.advice import Nodes, cloud_of

    nodes = Nodes(cloud=cloud_of(region), region=region, pulls_per_day=pulls, private=not public)
    source = whole(options.config_if_any(), source)
    with options.places([source]) as places:
        found = advise_on(
            options.config_if_any(),
            places,
            source=source,
            nodes=nodes,
            image_bytes=_bytes(size) if size else 0,
            releases_per_month=releases,
            platform=platform,
            prices=prices,
        )
    if svg is not None:
        write_file(svg, found.picture().encode())
    if options.as_json:
        print_json(found.plain())
        return
    out = console()
    told = f"{size_text(found.image_bytes)}; pulls a day: {pulls:g}; releases a month: {releases:g}; nodes in {region}"
    out.print(told, markup=False, soft_wrap=True)
    shown = [{name: each.row()[name] for name in ("way", "usd_per_month", "verdict", "why")} for each in found.ways]
    out.print(rows_table(shown))
    print_lines(f"{each.name}: {each.arithmetic()}" for each in found.ways)
    out.print(f"prices ({found.currency}) of {found.prices_of}", markup=False, soft_wrap=True)


def _bytes(text: str) -> int:
    match = _SIZE.match(text)
    if not match or not float(match[1]):
        raise InputError(f"{text!r} is no size", do="Write for example 6GB or 700MiB")
    return int(float(match[1]) * _UNITS[match[2] or "B"])


COMMANDS = [advise]
