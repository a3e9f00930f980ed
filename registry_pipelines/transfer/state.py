"""What transfers keep between runs: the journal and the receipts of one state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.transfer.fanout import Means
from registry_pipelines.transfer.journal import Journal
from registry_pipelines.transfer.receipts import ReceiptStore


@dataclass(frozen=True)
class State:
    """An open state folder; a context manager. Without a folder nothing is remembered."""

    journal: Journal | None = None
    receipts: ReceiptStore | None = None

    @classmethod
    def open(cls, folder: Path | None) -> State:
        """Open, and create where needed. Raises LocalError."""
        if folder is None:
            return cls()
        return cls(Journal.at(folder), ReceiptStore(folder / "receipts"))

    def means(self) -> Means:
        """Fresh means for the transfers of one run."""
        return Means(journal=self.journal)

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        if self.journal:
            self.journal.close()
