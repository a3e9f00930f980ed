"""The engine: what all copies of a program are made with, said once and handed to every way in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.transfer.delivery.receipts import ReceiptSigner
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.state import State
from registry_pipelines.waits import told_to

if TYPE_CHECKING:  # a copy without a shared state loads none
    from registry_pipelines.shared.state import SharedState

SILENT = Silent()


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What all copies of a program are made with. A plain value; nothing is opened before something is copied."""

    state: Path | None = None
    """Folder of the journal, known manifests and receipts; without it nothing is remembered."""
    shared: SharedState | None = None
    """What workers share instead of the folder: see :class:`~registry_pipelines.transfer.state.State`."""
    signer: ReceiptSigner | None = None
    """Signs the receipts."""
    progress: Progress = SILENT
    limits: MachineLimits | None = None
    """Request windows and bandwidth caps, shared by all processes that use the same limits folder."""

    def registry(self, registry: Registry) -> Registry:
        """A registry within the limits."""
        return registry if self.limits is None else limited(registry, self.limits)

    def place(self, place: Place) -> Place:
        """A place within the limits."""
        return Place(self.registry(place.registry), place.repository)

    @contextmanager
    def opened(self) -> Iterator[State]:
        """The state, for one plan; lasting waits are told of meanwhile. Raises what State raises."""
        with (
            told_to(self.progress),
            State(
                self.state,
                shared=self.shared,
                signer=self.signer,
                progress=self.progress,
            ) as state,
        ):
            yield state


PLAIN = Engine()
"""Remembers nothing, shows nothing, has no limits but what registries permit."""
