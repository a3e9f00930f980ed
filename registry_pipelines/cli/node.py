"""``node``: images on a machine that runs containers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines import interrupts
from registry_pipelines.cli.context import BELIEVED_KEYS, Options, SizeType, common
from registry_pipelines.cli.envelope import print_json_now
from registry_pipelines.cli.node_announce import ANNOUNCE, announcing, references, settings_of
from registry_pipelines.cli.node_doctor import doctor
from registry_pipelines.cli.node_gate import gate_of
from registry_pipelines.cli.node_keeping import keeping
from registry_pipelines.cli.node_recording import RECORD_TO, recorder_of
from registry_pipelines.cli.node_setup import root_option, setup, socket_option
from registry_pipelines.cli.node_size import size
from registry_pipelines.cli.node_status import drain, status
from registry_pipelines.cli.output import harmless
from registry_pipelines.errors import InputError
from registry_pipelines.node.where import KEPT_FREE, check_socket

if TYPE_CHECKING:
    from registry_pipelines.node.counts import Counts
    from registry_pipelines.node.images import NodeImages
    from registry_pipelines.settings import Size
    from registry_pipelines.stream.lazy.carriers import Kind
    from registry_pipelines.stream.lazy.kept_registry import Beside

SWITCH_S = 0.0005
"""How long one of the agent's threads may compute while another one waits: a pull of 40 layers asks 120 questions.
Python's own is ten times as long."""
NO_CARRIER = 1
"""Exit code where images cannot be served before they are fetched."""


@click.group("node")
def node() -> None:
    """Keep the images of a node for its container runtime."""


@node.command("serve", short_help="Be a snapshotter of containerd's.")
@socket_option("Where containerd asks; only root may.")
@root_option("Folder for all layers and what containers write; on ext4 or XFS.")
@BELIEVED_KEYS
@click.option(
    "--lazy/--no-lazy", default=True, show_default=True, help="Serve what can be read by pieces before it is fetched."
)
@click.option(
    "--fill/--no-fill",
    default=True,
    show_default=True,
    help="Fetch the rest of an image, too, once a container uses it and nobody waits for anything.",
)
@click.option(
    "--carrier",
    type=click.Choice(["fuse", "fanotify", "auto"]),
    help="By what images are mounted; `node.carrier` of the configuration, or fuse, unless told. See `node probe`.",
)
@click.option(
    "--metrics", default="", metavar="HOST:PORT", help="Where Prometheus asks for /metrics; nobody can unless told."
)
@click.option(
    "--metrics-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="The same numbers as a file for the node exporter's textfile collector: NAME.prom.",
)
@click.option(
    "--store-size",
    type=SizeType(),
    metavar="SIZE",
    help="Of layers that were fetched by pieces: what nobody uses gives way to it; 64GiB.",
)
@click.option(
    "--keep-free",
    type=click.FloatRange(0, 90),
    default=KEPT_FREE,
    show_default=True,
    metavar="PERCENT",
    help="Of the disk: below it, what was fetched and nobody uses gives way.",
)
@click.option(
    "--policy",
    metavar="NAME",
    help="Refuse what no verdict by this policy of the configuration allows; see `node.gate` there.",
)
@click.option(
    "--hosts-dir",
    "hosts",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    metavar="DIR",
    help="containerd's config_path, which says where the images of a host are asked for; `node.hosts` of the "
    "configuration, or /etc/containerd/certs.d, unless told. May be repeated.",
)
@click.option(
    "--unproven",
    is_flag=True,
    help="Serve eStargz layers also where no trusted indexer vouches for what they unpack to; see `node.unproven`.",
)
@ANNOUNCE
@RECORD_TO
@keeping
@common
def serve(
    options: Options,
    socket_path: Path,
    root: Path,
    keys: tuple[Path, ...],
    lazy: bool,
    fill: bool,
    carrier: Kind | None,
    metrics: str,
    metrics_file: Path | None,
    store_size: Size | None,
    keep_free: float,
    policy: str | None,
    unproven: bool,
    hosts: tuple[Path, ...],
    announce: tuple[str, ...],
    record_to: str | None,
    patience: float,
    end_mounts: bool,
) -> None:
    """Be a snapshotter of containerd's (1.6 to 2.x), until Ctrl-C or TERM: keep layers and what containers write.

    containerd's configuration names the socket, under a name that pulls and containers then choose:

    \b
    [proxy_plugins.registry-pipelines]
      type = "snapshot"
      address = "/run/registry-pipelines/snapshots.sock"
      capabilities = ["remap-ids"]
      [proxy_plugins.registry-pipelines.exports]
        enable_remote_snapshot_annotations = "true"

    With these annotations a pull fetches nothing of layers that can be read by pieces: those of an index, or of a
    conversion to eStargz, that a trusted indexer signed (`stream index`, `stream convert`). Other layers are pulled as
    usual, and why is said on stderr. Registries are asked with this user's Docker credentials; `node status` tells what
    is served.

    Without these annotations, as CRI of containerd 1.6 and 1.7 is unless told, a layer is known by its chain ID alone:
    then `--announce` names the images. Where their tags point is looked at again and again, and a registry that cannot
    be reached is asked later.

    It can end, be killed and start again while containers run, also as another version: a small process keeps what is
    mounted, reads of it wait (`--patience`), and the next agent serves them. Containers that start meanwhile fail. For
    good it ends by `--end-mounts`, on a node that is drained. Needs root and the extra `node`.
    """
    check_socket(socket_path)
    from registry_pipelines.allocator import keep_arenas_few
    from registry_pipelines.node.counts import Counts
    from registry_pipelines.node.room import Room
    from registry_pipelines.node.runtime_content import RuntimeContent
    from registry_pipelines.node.serving import served
    from registry_pipelines.stream.lazy import fdstore
    from registry_pipelines.stream.lazy.blocks import MAX_BYTES

    def say(line: str) -> None:
        click.echo(harmless(line), err=True)

    for name, told in (("--announce", announce), ("--record-to", record_to)):
        if told and not lazy:
            raise InputError("nothing is served before it is fetched", where=name, do="Leave out --no-lazy")
    with ExitStack() as stack:
        keep_arenas_few()
        sys.setswitchinterval(SWITCH_S)
        counts, content, state = Counts(), RuntimeContent(), options.state.parent / "lazy"
        images = None
        if lazy:
            found = _images(
                options,
                keys,
                record_to,
                say,
                counts,
                announce,
                fill=fill,
                unproven=unproven,
                hosts=hosts,
                patience_s=patience,
                end_mounts=end_mounts,
                carrier=carrier,
                store_bytes=store_size or MAX_BYTES,
                beside=content.read,
            )
            images = stack.enter_context(found)
            room = Room(state, counts=counts, log=say, max_bytes=store_size or MAX_BYTES, kept_free=keep_free)
            stack.enter_context(room)
        gate = stack.enter_context(gate_of(options, policy, say, counts, hosts))
        reporter = stack.enter_context(
            served(
                socket_path,
                root,
                log=say,
                lazy=images,
                gate=gate,
                counts=counts,
                lazy_state=state if lazy else None,
                joined=content.joined,
            )
        )
        if metrics or metrics_file:
            from registry_pipelines.node.metrics import metrics_of

            stack.enter_context(metrics_of(reporter, address=metrics, file=metrics_file))
        interrupts.mark_wanted()
        fdstore.notify("READY=1")
        if options.as_json:
            print_json_now({"url": f"unix://{socket_path}"})
        else:
            click.echo(harmless(f"snapshots of {root} are served on {socket_path}"))
        threading.Event().wait()


@contextmanager
def _images(
    options: Options,
    keys: Sequence[Path],
    record_to: str | None,
    say: Callable[[str], object],
    counts: Counts,
    announce: Sequence[str],
    *,
    fill: bool,
    unproven: bool,
    hosts: Sequence[Path],
    patience_s: float,
    end_mounts: bool,
    carrier: Kind | None,
    store_bytes: int,
    beside: Beside,
) -> Iterator[NodeImages]:
    from registry_pipelines.chain.node_places import NodePlaces
    from registry_pipelines.node.carrier import fault_of, usable_carrier
    from registry_pipelines.node.hosts_files import FOLDER
    from registry_pipelines.node.images import NodeImages

    verifier, state, settings = options.believed(keys), options.state.parent, settings_of(options)
    wanted = references(options, announce)
    hosts = hosts or settings.hosts
    for each in hosts:
        if each != FOLDER and not each.is_dir():
            say(f"{each} is not there: until it is, images are asked for at their own hosts")
    kind = usable_carrier(carrier or settings.carrier, state, say)
    if fault := fault_of(kind, state):
        say(f"all images are pulled as usual: {fault}; start the agent again then")
    with (
        options.places(wanted) as places,
        NodeImages(
            NodePlaces(places, hosts, say).place,
            state=state,
            verifier=verifier,
            log=say,
            fill=fill,
            counts=counts,
            unproven=unproven or settings.unproven == "serve",
            patience_s=patience_s,
            end_mounts=end_mounts,
            carrier=kind,
            fault=fault,
            store_bytes=store_bytes,
            beside=beside,
            recorder=recorder_of(options, record_to, places, say, counts),
        ) as images,
        announcing(options, images, wanted, state, say),
    ):
        yield images


@node.command("probe", short_help="Try which parts of the kernel images can be mounted by.")
@common
def probe(options: Options) -> None:
    """Try what `node serve` mounts images by (FUSE, fanotify with EROFS, writable layers above them, users of their
    own), and say of each what was done, what came, and what follows where it does not work.

    Nothing is told by the name or the number of a kernel. It takes a second, on the disk where this node keeps lazy
    images, and leaves nothing there. Most needs root.

    Exit 0: images can be served before they are fetched. Exit 1: they cannot, and are pulled.
    """
    from registry_pipelines.cli.node_probe import show

    if not show(options):
        sys.exit(NO_CARRIER)


for _command in (setup, size, status, doctor, drain):
    node.add_command(_command)

COMMANDS = [node]
