"""What is asked about everything: who shipped this, how good our practice is, what moves and what would change it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base
from registry_pipelines.chain.result import StageResult

if TYPE_CHECKING:
    from registry_pipelines.report.custody import Custody
    from registry_pipelines.report.maturity import Maturity


class Seeing(Base):
    """The reports."""

    def custody(self, text: str) -> Custody:
        """The whole life of a release or of any image, with the evidence of each statement: who shipped this. text: as
        :meth:`find_release` and ``locate`` read it; of a release a whole digest that was deleted, too. Nothing is
        written. Raises InputError, NotFound, RegistryError."""
        from registry_pipelines.chain import custody

        if text.partition("@")[0].partition(":")[0] in self.config.images:
            return custody.custody(self._session, custody.find_digest(self._session, text))
        return custody.custody_of(self._session, self._session.places.locate(text))

    def transfer(
        self, registries: Sequence[str] = (), *, days: int = 30, pulls: Path | None = None, prices: Path | None = None
    ) -> StageResult:
        """What moves a month by edge, and what it costs; see :func:`~registry_pipelines.chain.transfer.transferred`.
        Raises InputError."""
        from registry_pipelines.chain import transfer

        return transfer.transferred(self._session, registries, days=days, pulls=pulls, prices=prices)

    def maturity(self, images: Sequence[str] = ()) -> Maturity:
        """How good the practice is, of each registry and image (all unless named), in four tiers. Nothing is written.
        Raises InputError."""
        from registry_pipelines.chain import maturity

        return maturity.maturity(self._session, images)
