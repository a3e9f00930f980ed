"""``diff``: what changed between two images."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

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
from registry_pipelines.cli.references import located
from registry_pipelines.progress import count_text

if TYPE_CHECKING:
    from registry_pipelines.chain.differences import Difference


@click.command("diff")
@click.argument("before", shell_complete=IMAGES)
@click.argument("after", shell_complete=IMAGES)
@common
def diff(options: Options, before: str, after: str) -> None:
    """Show what changed from one image to another: packages by ecosystem, layers and bytes, findings.

    Both are releases of the configuration, or any images. What is known of them is read from the attached SBOMs and
    reports, which are not verified here; without them the layers are read. Nothing is written.
    """
    from registry_pipelines.chain.advisories import advisory_source, alerts_about, remedy
    from registry_pipelines.chain.differences import compare
    from registry_pipelines.promote.documents import DEFAULT_MAX_ADVISORY_AGE

    config = options.config_if_any()
    state = options.state.parent
    if config is not None and config.shared.database:
        from registry_pipelines.chain.shared_advisories import brought  # one machine needs none

        brought(config)
    source = advisory_source(state, config.advisories.source if config else None)
    with located(options, [before, after]) as ([old, new], _), options.progress() as progress:
        found = compare(old, new, state=state, advisories=source, progress=progress)
    now = datetime.now(UTC)
    compared = found.report if found.before.digest != found.after.digest else None
    alerts = alerts_about(compared, max_age=DEFAULT_MAX_ADVISORY_AGE, now=now, do=remedy(config)) if compared else []
    if options.as_json:
        print_json({"alerts": alerts, **found.plain()})
    else:
        print_alerts(alerts)
        _show(found)


def _show(found: Difference) -> None:
    out = console()
    for sign, side in (("-", found.before), ("+", found.after)):
        out.print(f"{sign} {side.reference} {side.digest}", markup=False, soft_wrap=True)
    if found.before.digest == found.after.digest:
        out.print("they are the same image", markup=False)
        return
    several = len({row["platforms"] for row in found.package_rows()} | {", ".join(found.after.platforms)}) > 1
    packages = worth_showing(found.package_rows(), ("before", "after"))
    if not several:
        packages = [{name: row[name] for name in row if name != "platforms"} for row in packages]
    counts = Counter(each.change for each in found.packages)
    summed = ", ".join(f"{counts[change]} {change}" for change in ("added", "removed", "changed") if counts[change])
    for title, rows in (
        (f"packages: {summed}", packages),
        ("layers", [row for row in found.layer_rows() if row["number"]]),
        (_finding_title(found), worth_showing(found.finding_rows(), ("fixed",))),
    ):
        if rows:
            out.print(rows_table(rows, title=title, limit=len(rows)))
    if not packages:
        out.print("packages: the same", markup=False)
    if found.findings and not found.finding_rows():
        out.print(f"findings: the same, {found.findings.same}", markup=False)
    print_lines(found.notes)


def _finding_title(found: Difference) -> str:
    if found.findings is None:
        return ""
    new, gone, same = len(found.findings.new), len(found.findings.gone), found.findings.same
    return f"findings: {new} new, {gone} gone, {count_text(same, 'other')} in both"


COMMANDS = [diff]
