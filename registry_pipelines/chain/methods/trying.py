"""What a change would cost or save, before it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from registry_pipelines.chain.methods import Base

if TYPE_CHECKING:
    from registry_pipelines.chain.what_if import Answer, ReplicaOptions, StreamingOptions


class Trying(Base):
    """What-ifs over a configuration; nothing is written to a registry."""

    def what_if_retention(
        self,
        registry: str,
        *,
        rules: Path | None = None,
        inventory: Path | None = None,
        prices: Path | None = None,
    ) -> Answer:
        """What the retention rules of a registry would free and save; see
        :func:`~registry_pipelines.chain.what_if.retention`. Raises InputError, ConfigInvalid, RegistryError."""
        from registry_pipelines.chain import what_if

        return what_if.retention(self._session, registry, rules=rules, inventory=inventory, prices=prices)

    def what_if_replica(self, registry: str, region: str, **how: Unpack[ReplicaOptions]) -> Answer:
        """From how many pulls on a replica is worth it; see :func:`~registry_pipelines.chain.what_if.replica`. Raises
        InputError, RegistryError."""
        from registry_pipelines.chain import what_if

        return what_if.replica(self._session, registry, region, **how)

    def what_if_archive(
        self,
        registry: str,
        *,
        unpulled_days: int = 90,
        retrieved: float | None = None,
        inventory: Path | None = None,
        prices: Path | None = None,
    ) -> Answer:
        """What ECR's archive class would save; see :func:`~registry_pipelines.chain.what_if.archive`. Raises
        InputError, RegistryError."""
        from registry_pipelines.chain import what_if

        return what_if.archive(
            self._session,
            registry,
            unpulled_days=unpulled_days,
            retrieved=retrieved,
            inventory=inventory,
            prices=prices,
        )

    def what_if_base(self, old: str, new: str, *, scanned: bool = False, prices: Path | None = None) -> Answer:
        """What moving images to another base comes to; see
        :func:`~registry_pipelines.chain.what_if_images.base`. Raises InputError, RegistryError."""
        from registry_pipelines.chain import what_if_images

        return what_if_images.base(self._session, old, new, scanned=scanned, prices=prices)

    def what_if_rechunk(
        self,
        image: str,
        *,
        last: int = 3,
        platform: str = "",
        nodes: int | None = None,
        prices: Path | None = None,
    ) -> Answer:
        """What layers by package change; see :func:`~registry_pipelines.chain.what_if_images.rechunk`. Raises
        InputError, RegistryError, LayerInvalid, ToolMissing."""
        from registry_pipelines.chain import what_if_images

        return what_if_images.rechunk(self._session, image, last=last, platform=platform, nodes=nodes, prices=prices)

    def what_if_streaming(self, image: str, **how: Unpack[StreamingOptions]) -> Answer:
        """What streaming changes on the wire; see :func:`~registry_pipelines.chain.what_if_images.streaming`. Raises
        InputError, RegistryError."""
        from registry_pipelines.chain import what_if_images

        return what_if_images.streaming(self._session, image, **how)
