"""``stream bench pull``: how long two images take to be pulled."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, harmless
from registry_pipelines.cli.references import named


@click.command("pull", short_help="Time two images as they are pulled: by us, Docker and containerd.")
@click.argument("first", metavar="A", shell_complete=IMAGES)
@click.argument("second", metavar="B", shell_complete=IMAGES)
@click.option("--iterations", type=click.IntRange(1, 999), default=5, show_default=True, help="Pulls of each.")
@click.option("--client", "clients", multiple=True, metavar="ours|docker|containerd", help="Only this one; repeatable.")
@click.option("--link", type=click.FloatRange(0), metavar="GBIT", help="Of this machine, where it does not say it.")
@click.option("--address", default="", metavar="SOCKET", help="containerd's; as ctr has it unless told.")
@click.option("--timeout", type=click.IntRange(1), default=900, show_default=True, help="Seconds, of one pull.")
@click.option("--work", type=click.Path(path_type=Path), metavar="DIR", help="Where our client unpacks; /var/tmp else.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For a page, a picture and JSON.")
@common
def pull(
    options: Options,
    first: str,
    second: str,
    iterations: int,
    clients: tuple[str, ...],
    link: float | None,
    address: str,
    timeout: int,
    work: Path | None,
    out: Path | None,
) -> None:
    """Time how long two images take to be pulled, and say how much faster B is than A: mean, median, standard
    deviation, least, most.

    By our client (into a folder), Docker's engine (the package `docker`: registry-pipelines[docker]) and containerd
    (`ctr`, in a namespace of its own), in turns. Copies are removed after each pull; an engine that has one of the
    images before is not measured. Layers that it shares with images that stay are not fetched again. Bound by what
    (processor, network, disk) is read from the whole machine's counters, so let nothing else run.
    """
    from registry_pipelines.oci.files import local_errors
    from registry_pipelines.stream.bench.counters import link_bits_per_s
    from registry_pipelines.stream.bench.machine import drop_caches
    from registry_pipelines.stream.bench.pullers import PulledImage, pullers
    from registry_pipelines.stream.bench.pulls import document, heading, measure, table, write

    def say(line: str) -> None:
        if not options.quiet:
            click.echo(harmless(line), err=True)

    parent = work or Path("/var/tmp")  # noqa: S108
    with local_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        own = tempfile.TemporaryDirectory(prefix="bench-pull-", dir=parent)
    with (
        own as folder,
        named(options, [first, second]) as locate,
    ):
        chosen = pullers(Path(folder), address=address, chosen=clients)
        found = [locate(first), locate(second)]
        images = [PulledImage(each.place, each.tag or each.digest) for each in found]
        notes = [] if drop_caches() else ["files may be in memory already: dropping them needs root"]
        local = all(each.local for each in images)
        rate = link * 1e9 if link is not None else 0.0 if local else link_bits_per_s()
        if not rate and not local:
            notes.append("the link's rate is not known (--link), so none is said to be bound by it")
        rows = measure(images, chosen, iterations, timeout, say)
        said = document(images, rows, iterations, rate, notes)
        paths = write(out, said, rows) if out else []
    if options.as_json:
        print_json({"pulls": said})
        return
    for text in (heading(said), table(said), *said["notes"], *(str(path) for path in paths)):
        console().print(harmless(text), markup=False, soft_wrap=True)
