"""What transfers keep between runs: the journal and the receipts of one state folder."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.transfer.courier import Courier
from registry_pipelines.transfer.fanout import Means
from registry_pipelines.transfer.journal import COURIERS, Journal
from registry_pipelines.transfer.memory import PartMemory
from registry_pipelines.transfer.receipts import ReceiptStore


class State:
    """An open state folder; a context manager. Without a folder nothing is remembered and no courier is used."""

    def __init__(self, folder: Path | None = None) -> None:
        """Open, and create where needed. Raises LocalError."""
        self.folder = folder
        self.memory = PartMemory()
        self.journal = Journal.at(folder) if folder else None
        self.receipts = ReceiptStore(folder / "receipts") if folder else None
        self._courier = Courier(folder / COURIERS, self.memory) if folder else None

    def means(self) -> Means:
        """What the transfers of this process share."""
        spool = self.folder / "spool" if self.folder else None
        return Means(memory=self.memory, journal=self.journal, courier=self._courier, spool=spool)

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        if self._courier:
            self._courier.close()
        if self.journal:
            self.journal.close()
