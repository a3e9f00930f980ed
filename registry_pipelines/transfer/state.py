"""What transfers keep between runs: the journal and the receipts of a state folder; they plan and copy with it."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.progress import Progress
from registry_pipelines.registry.interface import Registry, UploadSessions
from registry_pipelines.transfer.courier import Courier
from registry_pipelines.transfer.execute import Setting, execute
from registry_pipelines.transfer.fanout import Means
from registry_pipelines.transfer.journal import ABANDONED_S, COURIERS, UPLOAD_LIFE_S, Journal
from registry_pipelines.transfer.memory import PartMemory
from registry_pipelines.transfer.plan import Job, Plan, make_plan
from registry_pipelines.transfer.receipts import ReceiptSigner, ReceiptStore
from registry_pipelines.transfer.results import TargetResult

SPOOL = "spool"
"""Folder of blobs on their way to registries that take them only whole."""


class State:
    """An open state folder; a context manager. Without a folder nothing is remembered but in a journal that has a URL,
    and no courier is used.

    journal_url: of a database for the journal (``postgresql://...`` for many machines, or another of SQLAlchemy's);
    empty is SQLite in the folder. Receipts, spool and couriers' notes are in the folder always. Raises what
    :class:`~registry_pipelines.transfer.database.Database` raises.
    """

    def __init__(self, folder: Path | None = None, *, journal_url: str = "") -> None:
        """Open, and create where needed."""
        self.folder = folder
        self.memory = PartMemory()
        self.journal: Journal | None = None
        if journal_url:
            self.journal = Journal(journal_url, folder)
        elif folder:
            self.journal = Journal.at(folder)
        self.receipts = ReceiptStore(folder / "receipts") if folder else None
        self._courier = Courier(folder / COURIERS, self.memory) if folder else None

    def plan(self, jobs: Sequence[Job]) -> Plan:
        """See :func:`~registry_pipelines.transfer.plan.make_plan`; with what earlier runs left and found."""
        return make_plan(jobs, holdings=self.journal, receipts=self.receipts)

    def apply(self, plan: Plan, *, progress: Progress, signer: ReceiptSigner | None) -> list[TargetResult]:
        """See :func:`~registry_pipelines.transfer.execute.execute`. signer: of the receipts."""
        setting = Setting(
            means=Means(
                memory=self.memory,
                journal=self.journal,
                courier=self._courier,
                spool=self.folder / SPOOL if self.folder else None,
            ),
            progress=progress,
            receipts=self.receipts,
            signer=signer,
            keeper=self.journal,
        )
        return execute(plan, setting)

    def cancel_abandoned(self, registries: Iterable[Registry], *, older_than_s: float = ABANDONED_S) -> int:
        """Cancel uploads that killed runs left open at these registries and that no run came back for; how many. What
        such runs left in the state folder goes too: content on its way, notes and locks of couriers."""
        if self.folder:
            _sweep(self.folder / SPOOL, older_than_s)
            _sweep(self.folder / COURIERS, max(older_than_s, UPLOAD_LIFE_S))
        if self.journal is None:
            return 0
        known = {registry.name: registry for registry in registries if isinstance(registry, UploadSessions)}
        left = self.journal.abandoned(list(known), older_than_s=older_than_s)
        for upload in left:
            with contextlib.suppress(RegistryPipelinesError):
                known[upload.registry].cancel_upload(upload.session)
        return len(left)

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        if self._courier:
            self._courier.close()
        if self.journal:
            self.journal.close()


def _sweep(folder: Path, older_than_s: float) -> None:
    """Remove files that nobody wrote for so long and nobody holds locked."""
    oldest = time.time() - older_than_s
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if not path.is_file() or path.stat().st_mtime > oldest:
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
