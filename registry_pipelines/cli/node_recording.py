"""``node serve --record-to``: where what starts read is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from registry_pipelines.errors import InputError

if TYPE_CHECKING:
    from registry_pipelines.chain.places import Places
    from registry_pipelines.cli.context import Options
    from registry_pipelines.node.counts import Counts
    from registry_pipelines.node.model import RecordStarts
    from registry_pipelines.node.recording import StartRecorder

RECORD_TO = click.option(
    "--record-to",
    metavar="REPOSITORY",
    help="Record what first starts of images read, and send the lists there, a repository for them alone; what else "
    "`node.record` of the configuration says. Nothing is recorded unless told.",
)


def recorder_of(
    options: Options, record_to: str | None, places: Places, say: Callable[[str], object], counts: Counts
) -> StartRecorder | None:
    """What records starts; None where nothing is recorded. Raises InputError: that is no repository."""
    settings = settings_of(options, record_to)
    if settings is None:
        return None
    from registry_pipelines.node.recording import StartRecorder

    inbox = settings.inbox
    place = places.place(inbox)  # what is wrong with the name is said before anything is served
    return StartRecorder(settings, lambda: place, state=options.state.parent, log=say, counts=counts)


def settings_of(options: Options, record_to: str | None) -> RecordStarts | None:
    """How starts are recorded; None where they are not. Raises InputError."""
    import msgspec

    from registry_pipelines.node.model import INBOX, RecordStarts

    config = options.config_if_any()
    configured = config.node.record if config else None
    if record_to is None:
        return configured
    try:
        INBOX.check(record_to)
    except ValueError as error:
        raise InputError(f"--record-to: {error}") from error
    if configured is None:
        return RecordStarts(inbox=record_to)
    return msgspec.structs.replace(configured, inbox=record_to)


__all__ = ["RECORD_TO", "recorder_of", "settings_of"]
