"""The methods of :class:`~registry_pipelines.chain.stages.Chain`, by what they do.

``making``: build, stream, scan; ``judging``: sign to revoke; ``moving``: replicate, mirror, bundles, sync, deploy;
``keeping``: inventory, usage, collect; ``clouds``: settings, events; ``seeing``: reports; ``trying``: what-ifs. Each
method calls one function of the stage's module, which it loads then. Only ``stages`` imports this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry_pipelines.chain.notify import Notifier
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Config
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.config.notify import NotifyEvent


class Base:
    """A configuration, with what is open of it; :class:`~registry_pipelines.chain.stages.Chain` is what one makes."""

    def __init__(self, config: Config, *, progress: Progress | None = None) -> None:
        self.config = config
        self._session = Session(config, progress or Silent())
        self._notifier = Notifier(config)

    def registry(self, name: str) -> Registry:
        """A registry of the configuration, opened once; for what no stage does. Raises InputError."""
        return self._session.places.registry(name)

    def place(self, image: str) -> Place:
        """Where an image's releases appear. Raises InputError."""
        return self._session.places.source(self._session.image(image))

    def notify(
        self, event: NotifyEvent, release: Release, *, stage: str, what: str, reasons: Sequence[str] = ()
    ) -> list[str]:
        """Tell whom the configuration names in ``notify``, each thing once; what went wrong with that, one sentence
        each. :meth:`judge` and :meth:`promote` tell of denials by themselves."""
        return self._notifier.tell(event, release, stage=stage, what=what, reasons=reasons)

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
        """Tell the same people about something that is no release's; what went wrong with that, one sentence each."""
        return self._notifier.alert(event, stage=stage, what=what, reasons=reasons, owners=owners, url=url)
