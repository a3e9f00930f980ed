"""``report``: what finance, security and platform leads ask, each in a module of its own."""

from __future__ import annotations

import click

from registry_pipelines.cli.later import LaterGroup


class _Reports(LaterGroup):
    later = {
        "cost": "costing",
        "prices": "costing",
        "audit": "auditing",
        "custody": "auditing",
        "html": "pages",
        "maturity": "pages",
        "metrics": "metering",
        "pipelines": "pipelining",
        "receive": "auditing",
        "transfer": "what_if",
        "what-if": "what_if",
    }


@click.group("report", cls=_Reports)
def report() -> None:
    """Say what teams cost, what was deleted and by whom, and who shipped a release.

    \b
    What does my team cost?   report cost
    What did we delete?       report audit --action delete [--team TEAM]
    Who shipped this?         report custody IMAGE:TAG
    """


COMMANDS = [report]
