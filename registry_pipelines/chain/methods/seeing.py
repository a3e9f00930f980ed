"""What is asked about everything: who shipped this, how good our practice is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base

if TYPE_CHECKING:
    from registry_pipelines.report.custody import Custody


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
