"""``status``: where the channels of images stand; ``releases``: the same for every release."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from registry_pipelines.chain.result import held_text
from registry_pipelines.chain.status import Status, exit_code_of
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import (
    console,
    print_alerts,
    print_lines,
    rows_table,
    worth_showing,
)
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import age_text, count_text
from registry_pipelines.release import Release

REASON_CHARACTERS = 60
"""Of a reason in a cell; `--json` and `judge` have all of them whole."""

MOST_LOOKED_AT = 20
"""Releases of an image whose evidence is read unless ``--long`` asks for all: some twenty requests each."""

LOUD = ("break-glass", "revoked")
"""Rulings that stand in capitals."""

OPTIONAL = ("channel", "verdict", "reason", "where", "age", "size", "streams", "newer")


@click.command("status")
@click.argument("images", nargs=-1, metavar="[IMAGE]...", shell_complete=IMAGES)
@common
def status(options: Options, images: Sequence[str]) -> None:
    """Show where images stand: what the channel names, verdict, reason, where it is, age, size, and newer releases that
    are not promoted.

    All images unless named. Nothing is written. WHERE tells what the channel tag names at each target and mirror: the
    same, another, nothing (missing), or that it cannot be read (unreachable). Exit 0: every image's newest release
    ships and is everywhere. Exit 3: nothing is promoted, or it is not allowed any more, or a newer one is not promoted.
    Exit 7: a registry cannot be read. Exit 6: a place has another, or none. Of several the first of 3, 7, 6.
    """
    with options.chain() as chain:
        found = chain.statuses(images)
    code = exit_code_of(found)
    if options.as_json:
        print_json({"images": [each.plain() for each in found]})
    elif not found:
        console().print("the configuration has no images", markup=False)
    else:
        now = datetime.now(UTC)
        _show([{**_first(each), **_common(each, now), "newer": newer_text(each)} for each in found], found)
    if code:
        sys.exit(code)


@click.command("releases")
@click.argument("image", required=False, shell_complete=IMAGES)
@click.option(
    "--long", "everything", is_flag=True, help=f"Look at all, and not only at the newest {MOST_LOOKED_AT} of an image."
)
@common
def releases(options: Options, image: str | None, everything: bool) -> None:
    """List the releases that the source registries hold, and where each stands, in the columns of `status`.

    WHERE is about the version tag. The evidence of the newest of each image is read; the others are only listed.
    """
    with options.chain() as chain:
        if image is not None:
            chain.place(image)
        listed = sorted(chain.releases(None if image is None else [image]), key=_newest_first)
        looked = listed if everything else list(_newest(listed))
        found = chain.release_statuses(looked)
    known = dict(zip(looked, found, strict=True))
    if options.as_json:
        print_json(
            {"releases": [{**_named(each), **(known[each].plain() if each in known else {})} for each in listed]}
        )
    elif not listed:
        console().print("the source registries hold no release", markup=False)
    else:
        now = datetime.now(UTC)
        rows = [
            {"image": each.image, "tag": each.tag, "digest": each.digest}
            | ({"channel": known[each].channel, **_common(known[each], now)} if each in known else {})
            for each in listed
        ]
        _show(rows, found)
        if len(listed) > len(looked):
            left = count_text(len(listed) - len(looked), "older release")
            console().print(f"- {left} only listed; --long looks at them, too", markup=False, soft_wrap=True)


def _newest_first(release: Release) -> tuple[str, Any]:
    return release.image, _Reversed(order_key(release.tag))


class _Reversed:
    """Sorts the other way round."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.key < self.key)


def _newest(listed: Iterable[Release]) -> Iterable[Release]:
    counts: dict[str, int] = {}
    for release in listed:
        counts[release.image] = counts.get(release.image, 0) + 1
        if counts[release.image] <= MOST_LOOKED_AT:
            yield release


def _named(release: Release) -> dict[str, Any]:
    return {"release": release.key, "image": release.image, "tag": release.tag, "digest": release.digest}


def _first(status: Status) -> dict[str, Any]:
    named = status.tag or (status.digest.partition(":")[2][:12] if status.digest else "")
    return {"image": status.image, "channel": status.channel, "release": named or "none"}


def _common(status: Status, now: datetime) -> dict[str, Any]:
    return {
        "verdict": status.ruling.upper() if status.ruling in LOUD else status.ruling,
        "reason": _reason(status),
        "where": where_text(status.places),
        "age": _age(status, now),
        "size": "" if status.size_bytes is None else status.size_bytes,
        "streams": status.streams.text if status.streams else "",
    }


def _reason(status: Status) -> str:
    told = [held_text(status.held)] if status.held else []
    return shortened(": ".join([*told, *status.reasons[:1]]))


def where_text(places: Mapping[str, str]) -> str:
    """``same: eu, gcp; missing: airgap``."""
    names: dict[str, list[str]] = {}
    for name, found in places.items():
        names.setdefault(found, []).append(name)
    return "; ".join(f"{found}: {', '.join(each)}" for found, each in names.items())


def newer_text(status: Status) -> str:
    """``v1.3.0: not judged``, a line for each."""
    lines = [f"{each.tag}: {shortened(each.why)}" for each in status.newer]
    if status.more_newer:
        lines.append(f"and {count_text(status.more_newer, 'newer tag')} not looked at")
    return "\n".join(lines)


def shortened(text: str) -> str:
    """The first line, cut."""
    line = text.partition("\n")[0]
    return line if len(line) <= REASON_CHARACTERS else f"{line[: REASON_CHARACTERS - 3].rstrip()}..."


def _age(status: Status, now: datetime) -> str:
    """Of the image; of its promotion where a reproducible build keeps the other a secret."""
    if status.created:
        return age_text((now - status.created).total_seconds())
    return f"{age_text((now - status.promoted).total_seconds())} in {status.channel}" if status.promoted else ""


def _show(rows: Sequence[Mapping[str, Any]], found: Iterable[Status]) -> None:
    out, found = console(), list(found)
    print_alerts(alert for status in found for alert in status.alerts)
    out.print(rows_table(worth_showing(rows, OPTIONAL), limit=len(rows)))
    print_lines(problem for status in found for problem in status.problems)
    print_lines(
        f"{each.tag} of {status.image} may go: `{each.do}`" for status in found for each in status.newer if each.do
    )


COMMANDS = [status, releases]
