"""``break-glass`` and ``revoke``: what a person decides beside the policy."""

from __future__ import annotations

import sys

import click

from registry_pipelines.cli.approving import Lasting
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import show_result
from registry_pipelines.errors import EvidenceError, InputError
from registry_pipelines.promote.person import Person
from registry_pipelines.settings import Duration

BY = click.option("--by", metavar="NAME", help="Who you are; the account of this machine unless told.")


@click.group("break-glass")
def break_glass_group() -> None:
    """Let a release go against its policy for a time, say that this is over, or list what is open."""


@break_glass_group.command("open", short_help="Let one release come to a channel until a time, for a reason.")
@click.argument("release", shell_complete=IMAGES)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is signed.")
@click.option("--lasts", type=Lasting(), required=True, metavar="DURATION", help="How long, at most 7d (4h).")
@click.option("--channel", default="", metavar="NAME", help="Which; the last of the image unless told.")
@BY
@common
def open_glass(options: Options, release: str, reason: str, lasts: Duration, channel: str, by: str | None) -> None:
    """Sign with a person's key that exactly this digest may come to a channel and be copied, although its policy denies
    it, until the time is over. `promote` then moves the channel.

    Nothing excuses a revocation, or a version tag that names something else. It stands in `status` and in the UI until
    it is closed. RELEASE is image:tag, image@digest, its key, or the image alone when it has one release.
    """
    with options.chain() as chain:
        wanted = chain.find_release(release)
        result = chain.break_glass(wanted, _person(by), reason=reason, lasts=lasts, channel=channel)
    show_result(result, as_json=options.as_json)


@break_glass_group.command("close", short_help="Say that a release needs it no longer.")
@click.argument("release", shell_complete=IMAGES)
@click.option("--reason", default="", metavar="TEXT", help="What became of it; it is signed.")
@BY
@common
def close_glass(options: Options, release: str, reason: str, by: str | None) -> None:
    """Sign that every break-glass of a release holds no longer; from then on its policy counts alone.

    RELEASE is image:tag, image@digest, its key, or the image alone when it has one release.
    """
    with options.chain() as chain:
        result = chain.close_break_glass(chain.find_release(release), _person(by), reason=reason)
    show_result(result, as_json=options.as_json)


@break_glass_group.command("list", short_help="List what nobody closed, the expired too.")
@click.argument("images", nargs=-1, metavar="[IMAGE]...", shell_complete=IMAGES)
@common
def list_glasses(options: Options, images: tuple[str, ...]) -> None:
    """List every break-glass that nobody closed, also where its time is over. Exit code 3: there is one."""
    with options.chain() as chain:
        result = chain.break_glasses(images)
    show_result(result, as_json=options.as_json)
    if result.facts["open"]:
        sys.exit(EvidenceError.exit_code)


@click.command("revoke")
@click.argument("releases", nargs=-1, metavar="RELEASE", shell_complete=IMAGES)
@click.option("--reason", default="", metavar="TEXT", help="Why, or with --close and --lift what became of it; signed.")
@click.option("--to", "back_to", metavar="RELEASE", help="What the channels go back to; the last good one unless told.")
@click.option("--close", "closes", is_flag=True, help="All is done: list it no more. It stays denied.")
@click.option("--lift", "lifts", is_flag=True, help="It was a mistake: the release may be judged again.")
@click.option(
    "--list", "lists", is_flag=True, help="List what nobody closed, of these images or all; exit code 3: there is one."
)
@BY
@common
def revoke(
    options: Options,
    releases: tuple[str, ...],
    reason: str,
    back_to: str | None,
    closes: bool,
    lifts: bool,
    lists: bool,
    by: str | None,
) -> None:
    """Deny a release that turned out bad: signed, its channels back to the last good release, every target and mirror
    that has it told, no copy and no start of it from then on.

    The same command does what is left, where a place could not be reached (exit code 6). RELEASE is image:tag,
    image@digest, its key, or the image alone when it has one release.
    """
    if closes + lifts + lists > 1 or (back_to and (closes or lifts or lists)):
        raise InputError("--close, --lift, --list and --to exclude each other")
    if not lists and len(releases) != 1:
        raise InputError("one release is wanted", do="Name it; `--list` takes images, or nothing for all of them")
    person = _person(by)
    with options.chain() as chain:
        if lists:
            result = chain.revocations(releases)
        elif closes or lifts:
            result = chain.close_revocation(chain.find_release(releases[0]), person, reason=reason, lift=lifts)
        else:
            earlier = chain.find_release(back_to) if back_to else None
            result = chain.revoke(chain.find_release(releases[0]), person, reason=reason, back_to=earlier)
    show_result(result, as_json=options.as_json)
    if result.exit_code or (lists and result.facts["open"]):
        sys.exit(result.exit_code or EvidenceError.exit_code)


def _person(name: str | None) -> Person | None:
    return None if name is None else Person.named(name, "claimed")


COMMANDS = [break_glass_group, revoke]
