"""What the blobs of one run share: memory, journal, courier, and what is known of their registries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.registry.protocol import Place, UploadSessions
from registry_pipelines.transfer.blob.courier import Courier
from registry_pipelines.transfer.blob.memory import PartMemory
from registry_pipelines.transfer.blob.sinks import UploadJournal
from registry_pipelines.transfer.blob.window import CONNECTIONS
from registry_pipelines.transfer.flow.health import Health
from registry_pipelines.transfer.flow.patience import Patience
from registry_pipelines.transfer.flow.schedule import Aside
from registry_pipelines.transfer.limits.rules import KNOWN, RegistryRule, rule_for

if TYPE_CHECKING:  # without a shared state there are none
    from registry_pipelines.transfer.blob.turns import Turns


@dataclass
class BlobTools:
    """What the blobs of one run are moved with; one for all of them, in all threads."""

    memory: PartMemory = field(default_factory=PartMemory)
    journal: UploadJournal | None = None
    turns: Turns | None = None
    """Whose turn it is to send a blob, where other workers may send the same."""
    courier: Courier | None = None
    """Sends parts so that a kill does not tear them; without one they are sent from here."""
    connections: int = CONNECTIONS
    """Connections for one big blob."""
    patience: Callable[[], Patience] = Patience
    aside: Aside = field(default_factory=Aside)
    """What long waits are put into."""
    health: Health = field(init=False)
    """How the registries of this run stand."""
    spool: Path | None = None
    """Folder for blobs on their way to registries that take them only whole; without one they are streamed."""
    rules: Sequence[RegistryRule] = KNOWN
    whole_only: set[str] = field(default_factory=set)
    """Registries that refused chunks in this run."""

    def __post_init__(self) -> None:
        self.health = Health(self.patience, aside=self.aside)


def takes_chunks(target: Place, tools: BlobTools) -> bool:
    """Whether an upload to it may be a session of chunks, as far as is known."""
    registry = target.registry
    if registry.name in tools.whole_only or not rule_for(registry.name, tools.rules).chunks:
        return False
    return isinstance(registry, UploadSessions) and registry.capabilities(target.repository).chunked_upload is not False
