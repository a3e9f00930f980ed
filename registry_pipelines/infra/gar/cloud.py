"""Google's settings as a :class:`~registry_pipelines.infra.cloud.SettingsCloud`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from registry_pipelines.infra.cloud import Found
from registry_pipelines.infra.gar import kinds
from registry_pipelines.infra.gar.asking import Asking
from registry_pipelines.infra.gar.changing import Changing
from registry_pipelines.infra.gar.reading import Reading
from registry_pipelines.infra.plan import Change, Outcome
from registry_pipelines.infra.settings import Setting


class GarSettings:
    """One Artifact Registry, and what stands around it in its project. place: its name in the configuration."""

    order: Sequence[str] = kinds.ORDER
    needs: Mapping[str, str] = kinds.NEEDS

    def __init__(self, place: str, asking: Asking) -> None:
        self.place, self.where = place, asking.parent
        self._reading = Reading(place, asking)
        self._changing = Changing(asking, self._reading)

    def everything(self) -> Found:
        """All that is there, also what no list tells of things that nobody declared: what an import takes. Raises
        RegistryError."""
        return self._reading.read((), everything=True)

    def read(self, declared: Sequence[Setting]) -> Found:
        """See SettingsCloud."""
        return self._reading.read(declared)

    def apply(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """See SettingsCloud."""
        return self._changing.apply(changes)


__all__ = ["GarSettings"]
