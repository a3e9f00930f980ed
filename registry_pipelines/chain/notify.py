"""Tell somebody what does not go as it should, in every way that ``notify`` of the configuration names.

Every notification of the command line, of Dagster's runs and of its alerts goes through :class:`Notifier`. How each way
sends is in ``notify_ways``; how many may go out in ``notify_pace``. Neither address nor token nor password is repeated
anywhere, nor what command and servers answer: any of them may hold a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from registry_pipelines.config.model import Config
from registry_pipelines.config.notify import NotifyEvent
from registry_pipelines.release import Release

MAX_REASONS = 50
"""Reasons in one notice; chat programs refuse long messages, and all of them stand in the verdict."""


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody is told, as the JSON object that command and webhook get. What does not hold is left out of the
    fields below ``time``."""

    event: NotifyEvent
    release: str
    """The release's key, ``image:tag@digest``; empty where it is about none."""
    image: str
    tag: str
    digest: str
    stage: str
    """Where it ended: ``judge``, ``promote``, ``replicate:<target>``, ...; of a run its job."""
    what: str
    """One sentence."""
    reasons: tuple[str, ...]
    """One sentence each, the first ``MAX_REASONS``."""
    more_reasons: int
    """How many are left out."""
    time: str
    """RFC 3339, UTC, whole seconds."""
    owners: tuple[str, ...] = ()
    """Who owns it."""
    url: str = ""
    """Where it is to be looked at."""
    left_out: int = 0
    """Notifications that were not sent before this one, for ``notify.most_per_hour``."""


class Notifier:
    """Tells what the configuration wants told, each thing once: a run that judges and is then refused the promotion,
    for the same reasons, tells one denial.

    Safe to use from many threads.
    """

    def __init__(self, config: Config) -> None:
        self._config, self._settings = config, config.notify
        self._told: set[tuple[str, str, str, tuple[str, ...]]] = set()

    def tell(
        self, event: NotifyEvent, release: Release, *, stage: str, what: str, reasons: Sequence[str] = ()
    ) -> list[str]:
        """Notify about a release; what went wrong with that, one sentence each. Raises nothing of its own."""
        key = (event, release.key, stage if event == "failed" else "", tuple(reasons))
        if not self.wants(event) or key in self._told:
            return []
        self._told.add(key)
        image = self._config.images.get(release.image)
        problems = self._send(
            event,
            release=release,
            stage=stage,
            what=what,
            reasons=reasons,
            owners=image.owners if image else (),
        )
        if problems:
            self._told.discard(key)  # so that the next occasion is another chance
        return problems

    def alert(
        self,
        event: NotifyEvent,
        *,
        stage: str,
        what: str,
        reasons: Sequence[str] = (),
        owners: Sequence[str] = (),
        url: str = "",
    ) -> list[str]:
        """Notify about something that is no release's; what went wrong with that, one sentence each. Who calls it says
        each thing once. Raises nothing of its own."""
        if not self.wants(event):
            return []
        return self._send(event, release=None, stage=stage, what=what, reasons=reasons, owners=owners, url=url)

    def wants(self, event: NotifyEvent) -> bool:
        """Whether anybody is to be told of this."""
        return event in self._settings.events and self._settings.ways

    def _send(
        self,
        event: NotifyEvent,
        *,
        release: Release | None,
        stage: str,
        what: str,
        reasons: Sequence[str],
        owners: Sequence[str],
        url: str = "",
    ) -> list[str]:
        from registry_pipelines.chain import notify_pace, notify_ways  # for those who tell somebody alone

        left_out = notify_pace.left_out(self._config)
        if left_out is None:
            return []
        hidden = notify_ways.hider(self._config)
        notice = Notice(
            event=event,
            release=release.key if release else "",
            image=release.image if release else "",
            tag=release.tag if release else "",
            digest=str(release.digest) if release else "",
            stage=stage,
            what=hidden(what),
            reasons=tuple(hidden(each) for each in reasons[:MAX_REASONS]),
            more_reasons=max(0, len(reasons) - MAX_REASONS),
            time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            owners=tuple(owners),
            url=url,
            left_out=left_out,
        )
        problems = notify_ways.send(self._settings, self._config.path.parent, notice)
        if len(problems) >= self._settings.way_count:
            notify_pace.take_back(self._config, left_out)
        return problems
