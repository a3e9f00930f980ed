"""``node status`` and ``drain``: what an agent of this machine does, and its end without harm."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.node_setup import root_option
from registry_pipelines.cli.output import console, harmless, print_below
from registry_pipelines.progress import age_text, count_text, size_text

if TYPE_CHECKING:
    from registry_pipelines.node.status import ImageStatus, NodeStatus, Told

LOOK_S = 0.2
NOT_REACHED = 1
"""Exit code of a drain that took too long."""
_REACHED = {"filled": "filled", "unused": "done"}


@click.command("status", short_help="Say what the agent serves, to whom, and what it left to normal pulls.")
@root_option("As of `node serve`.")
@click.option("--metrics", is_flag=True, help="In Prometheus' text format, as `node serve --metrics` serves it.")
@common
def status(options: Options, root: Path, metrics: bool) -> None:
    """Say what the agent of this machine serves before it is fetched, to which containers, what was fetched for that,
    and which images it left to the normal pull, and why. As root.

    It is the agent's own account, at most a second old. Where the agent does not run it is what was true when it was
    last written, and that is said.
    """
    from registry_pipelines.node.status import read_status

    told = read_status(root)
    if metrics:
        from registry_pipelines.node.metrics import exposition

        if not told.alive:
            click.echo(harmless(_agent_text(told, datetime.now(UTC))), err=True)
        click.echo(exposition(told.status), nl=False)
        return
    taken = _disk(told.status)
    if options.as_json:
        import msgspec

        print_json({"alive": told.alive, **msgspec.to_builtins(told.status), **taken})
        return
    _print(told, taken, datetime.now(UTC))


def _disk(told: NodeStatus) -> dict[str, int]:
    """What the disk holds of layers that are read by pieces, whoever serves them."""
    from registry_pipelines.stream.lazy.blocks import disk_bytes

    lazy = Path(told.lazy_state) if told.lazy_state else None
    layers, files = (disk_bytes(lazy / name) if lazy else 0 for name in ("blocks", "backing"))
    return {"layers_disk_bytes": layers, "files_disk_bytes": files}


def _print(told: Told, taken: dict[str, int], now: datetime) -> None:
    found, out = told.status, console()

    def say(line: str) -> None:
        out.print(harmless(line), markup=False, soft_wrap=True)

    say(_agent_text(told, now))
    containers = count_text(found.containers, "container")
    say(
        f"{count_text(found.snapshots, 'snapshot')}, {containers}, layers on the disk that are read by pieces: "
        f"{size_text(taken['layers_disk_bytes'] + taken['files_disk_bytes'])}"
    )
    if found.drain is not None:
        say(_drain_text(found))
    for image in found.images:
        print_below(_image_text(image), [_row(each, now) for each in image.mounts])
        for each in image.mounts:
            for reason in (*each.reasons, *([each.carrier_why] if each.carrier_why else ())):
                say(f"  {reason}")
    if found.fallbacks:
        say("Pulled as usual:")
    for fallback in found.fallbacks:
        times = f", {count_text(fallback.count, 'time')}" if fallback.count > 1 else ""
        say(f"- {fallback.image} ({fallback.reason}, {_age(fallback.at, now)} ago{times}): {fallback.why}")


def _agent_text(told: Told, now: datetime) -> str:
    found = told.status
    who = f"the agent {found.version} (process {found.process})"
    if told.alive:
        lazy = "" if found.lazy_state else "; it serves nothing before it is fetched (--no-lazy)"
        return f"{who} has served {found.root} on {found.socket} for {_age(found.started, now)}{lazy}"
    gone = f"ended {_age(found.ended, now)} ago" if found.ended else "was killed"
    return f"{who} of {found.root} {gone}: what follows was true {_age(found.updated, now)} ago"


def _image_text(image: ImageStatus) -> str:
    users = count_text(len(image.containers), "container")
    named = f": {', '.join(image.containers[:3])}" if image.containers else ""
    more = f" and {len(image.containers) - 3} more" if len(image.containers) > 3 else ""
    mounted = "" if image.mounts else ", not mounted"
    return harmless(f"{image.image}: {count_text(image.layers, 'layer')}{mounted}, {users}{named}{more}")


def _row(note: Any, now: datetime) -> dict[str, Any]:
    return {
        "served": _age(note.since, now),
        "carrier": note.carrier,
        "size_bytes": note.size_bytes,
        "filled_bytes": note.filled_bytes,
        "fetched_bytes": note.fetched_bytes,
        "pack_bytes": note.pack_bytes,
        "demand_bytes": note.demand_bytes,
        "background_bytes": note.background_bytes,
        "stalls": note.stalls,
        "stalled_s": note.stalled_s,
        "waiting": note.waiting,
        "failed_reads": note.failed_reads,
    }


def _age(text: str, now: datetime) -> str:
    from registry_pipelines.oci.times import read_time

    moment = read_time(text)
    return age_text((now - moment).total_seconds()) if moment else "?"


def _drain_text(found: NodeStatus) -> str:
    """How far a drain is, in one line."""
    drain = found.drain
    if drain is None:
        return "it is not being drained"
    if drain.done:
        return "drained: no container uses an image that is served"
    users = sum(len(each.containers) for each in found.images)
    missing = f"{size_text(drain.missing_bytes)} still to come" if drain.missing_bytes else "all that runs is here"
    return f"draining: {missing}, {count_text(users, 'container')} of images that are served"


@click.command("drain", short_help="Have what runs fetched whole, and wait until nothing needs the agent.")
@root_option("As of `node serve`.")
@click.option(
    "--until",
    type=click.Choice(["filled", "unused"]),
    default="unused",
    show_default=True,
    help="Come back when all that containers use is on this node, or when no container uses what is served.",
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer.")
@click.option("--undo", is_flag=True, help="Serve further images again, as before.")
@common
def drain(options: Options, root: Path, until: str, timeout_s: float | None, undo: bool) -> None:
    """Prepare the end of this node's agent: what is pulled from now on is pulled as usual, what containers use is
    fetched whole, so that nothing needs a registry, and the rest is waiting for containers to end. As root.

    It ends no container: move them away first (`kubectl drain`). They go on meanwhile, and further ones of images that
    are here start. What was drained until `unused` is unmounted when the agent is ended. A drain stays when this
    command is ended; --undo takes it back, and so does a new start of the agent.

    Exit 1: it was not reached in time.
    """
    from registry_pipelines.node.draining import ask, look

    ask(root, undo=undo)
    began, last = time.monotonic(), ""
    while True:
        found = look(root).status
        reached = found.drain is None if undo else found.drain is not None and getattr(found.drain, _REACHED[until])
        if (line := _drain_text(found)) != last and (undo is (found.drain is None)):
            last = line
            if not options.quiet:
                click.echo(harmless(line), err=True)
        if reached or (timeout_s is not None and time.monotonic() - began >= timeout_s):
            break
        time.sleep(LOOK_S)
    if options.as_json:
        import msgspec

        images = [{"image": each.image, "containers": each.containers} for each in found.images]
        print_json({"reached": reached, "drain": msgspec.to_builtins(found.drain), "images": images})
    if not reached:
        sys.exit(NOT_REACHED)


COMMANDS = [status, drain]
