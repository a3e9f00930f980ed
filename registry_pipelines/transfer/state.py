"""What transfers keep between runs: the journal and the receipts of a state folder; they plan and copy with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from registry_pipelines.errors import LocalError, RegistryPipelinesError
from registry_pipelines.interrupts import is_interrupt
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place, Registry, UploadSessions
from registry_pipelines.transfer.blob.courier import COURIERS, Courier
from registry_pipelines.transfer.blob.journal import Journal
from registry_pipelines.transfer.blob.memory import PART_BYTES, PartMemory
from registry_pipelines.transfer.blob.owners import OWNERS, new_name
from registry_pipelines.transfer.blob.sinks import ABANDONED_S, JOURNAL_FILE, UPLOAD_LIFE_S
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.delivery.acts import DeliveryTools
from registry_pipelines.transfer.delivery.execute import execute
from registry_pipelines.transfer.delivery.plan import Job, Plan
from registry_pipelines.transfer.delivery.planner import Planner
from registry_pipelines.transfer.delivery.receipts import ReceiptFolder, ReceiptSigner, ReceiptStore
from registry_pipelines.transfer.delivery.refusals import SparseRefusals
from registry_pipelines.transfer.delivery.results import TargetResult

if TYPE_CHECKING:  # a copy without a shared state loads none
    from registry_pipelines.shared.state import SharedState
    from registry_pipelines.transfer.blob.turns import Turns

SPOOL = "spool"
"""Folder of blobs on their way to registries that take them only whole."""

REFUSALS = "sparse-refused"
"""Folder of the registries that refused an index without some of its children."""

BUSY_S = 10.0
"""How long another process that writes is waited for, before the journal itself is asked."""


class State:
    """An open state folder; a context manager. Without a folder nothing is remembered but in a shared database,
    and no courier is used.

    shared: what many workers have together; without it everything is in the folder. Spool, couriers' notes and what
    this machine saw of manifests are in the folder always. signer: of the receipts. Raises what
    :class:`~registry_pipelines.shared.state.SharedState` raises; for SQLite in the folder LocalError, not at once, but
    before anything is copied.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        shared: SharedState | None = None,
        signer: ReceiptSigner | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open, and create where needed."""
        self.folder = folder
        self._signer = signer
        self._progress = progress or Silent()
        self.memory = PartMemory()
        self._journal: Journal | None = None
        self._shared = shared
        self._opening = threading.Lock()
        self.manifests = _manifests(folder, shared)
        self.receipts = receipts_of(folder, shared)
        self._refusals = _refusals(folder, shared)
        self._owner = new_name()
        telling = _for_orphans(shared, self._owner) if shared else None
        self._courier = Courier(folder / COURIERS, self.memory, self._owner, telling) if folder else None
        self._starting: threading.Thread | None = None
        if folder:
            with local_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        if shared:
            self.open_journal()

    def open_journal(self) -> Journal | None:
        """The journal, opened when it is first asked for: an unchanged fleet needs none. None without folder and
        shared database."""
        if self.folder is None and not self._shared:
            return None
        with self._opening:
            if self._journal is None:
                self._journal = (
                    Journal.on(self._shared, self.folder, name=self._owner)
                    if self._shared
                    else Journal.at(cast(Path, self.folder), name=self._owner)
                )
            return self._journal

    def holders(self, registry: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """See :class:`~registry_pipelines.transfer.delivery.planner.Holdings`."""
        journal = self.open_journal()
        return journal.holders(registry, digests) if journal else {}

    def begun(self, target: Place) -> bool:
        """See :class:`~registry_pipelines.transfer.delivery.planner.Holdings`."""
        journal = self.open_journal()
        return journal.begun(target) if journal else False

    def plan(self, jobs: Sequence[Job]) -> Plan:
        """What is to be done, with what earlier runs left and saw: see :meth:`planner`, which is for those who learn
        their jobs one after another."""
        with self.planner() as planner:
            return planner.plan(jobs)

    def planner(self) -> Planner:
        """A planner that knows what earlier runs left and saw."""
        return Planner(holdings=self, receipts=self.receipts, refusals=self._refusals)

    def apply(self, plan: Plan) -> list[TargetResult]:
        """See :func:`~registry_pipelines.transfer.delivery.execute.execute`."""
        if plan.largest_upload_bytes > PART_BYTES:
            self._start_courier()
        journal = None if plan.unchanged else self.open_journal()
        if journal:
            journal.begin({each.target for each in plan.deliveries if not each.unchanged})
        tools = DeliveryTools(
            blob=self.blob_tools(journal),
            progress=self._progress,
            receipts=self.receipts,
            signer=self._signer,
            refusals=self._refusals,
        )
        results = execute(plan, tools)
        if journal:
            done = zip(plan.deliveries, results, strict=True)
            with contextlib.suppress(LocalError):  # then the next run asks a few questions more
                journal.end({each.target for each, result in done if each.tags and result.error is None})
        return results

    def _start_courier(self) -> None:
        """Beside what comes before its first part: uploads are begun, and the part is read. Without one that needs it,
        whoever closes the state would wait for its start."""
        if self._courier and self._starting is None:
            self._starting = threading.Thread(target=self._courier.start, name="courier-start", daemon=True)
            self._starting.start()

    def blob_tools(self, journal: Journal | None = None) -> BlobTools:
        """What the blobs of one run are moved with."""
        return BlobTools(
            memory=self.memory,
            journal=journal,
            courier=self._courier,
            spool=self.folder / SPOOL if self.folder else None,
            turns=self._turns(),
        )

    def _turns(self) -> Turns | None:
        if self._shared is None:
            return None
        from registry_pipelines.transfer.blob.turns import Turns

        return Turns(self._shared)

    def cancel_abandoned(self, registries: Iterable[Registry], *, older_than_s: float = ABANDONED_S) -> int:
        """Cancel uploads that killed runs left open at these registries and that no run came back for; how many. What
        such runs left in the state folder goes too: content on its way, notes and locks."""
        if self.folder:
            _sweep(self.folder / SPOOL, older_than_s)
            for name in (COURIERS, OWNERS):
                _sweep(self.folder / name, max(older_than_s, UPLOAD_LIFE_S))
        if self.manifests:
            self.manifests.sweep()
        if self.receipts:
            self.receipts.sweep()
        journal = self.open_journal() if self._journal or self._records_uploads() else None
        if turns := self._turns():
            turns.sweep()
        if journal is None:
            return 0
        known = {registry.name: registry for registry in registries if isinstance(registry, UploadSessions)}
        try:
            left = journal.abandoned(list(known), older_than_s=older_than_s)
        except LocalError:
            if self._shared:  # a database that went away is told of by what needed it; the next run cancels
                return 0
            raise
        for upload in left:
            with contextlib.suppress(RegistryPipelinesError):
                known[upload.registry].cancel_upload(upload.session)
        return len(left)

    def _records_uploads(self) -> bool:
        """Whether SQLite in the folder has any upload; asked without the journal, which takes longer to open than an
        unchanged fleet to look at."""
        if self.folder is None or not _exists(self.folder / JOURNAL_FILE):
            return False
        try:
            with contextlib.closing(sqlite3.connect(self.folder / JOURNAL_FILE, timeout=BUSY_S)) as database:
                return database.execute("SELECT 1 FROM uploads LIMIT 1").fetchone() is not None
        except sqlite3.Error:
            return True  # the journal itself says what is wrong

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as ends:  # an interrupt in the middle leaves out none
            if self.manifests:
                ends.callback(self.manifests.close)
            if self._journal:
                ends.callback(self._journal.close)
            if self._courier:
                ends.callback(self._courier.close, hurry=is_interrupt(kind))
            if self._starting:
                self._starting.join()


def _manifests(folder: Path | None, shared: SharedState | None) -> ManifestFolder | None:
    if folder is None:
        return None
    if shared is None:
        return ManifestFolder(folder / "manifests")
    from registry_pipelines.transfer.closure.shared import SharedManifests

    return SharedManifests(folder / "manifests", shared.database)


def receipts_of(folder: Path | None, shared: SharedState | None) -> ReceiptStore | None:
    """Where the receipts of copies are: with what workers share, else below a folder of transfers; None without either.
    Raises what :class:`~registry_pipelines.shared.state.SharedState` raises."""
    if shared is None:
        return ReceiptFolder(folder / "receipts") if folder else None
    from registry_pipelines.transfer.delivery.shared import SharedReceipts

    return SharedReceipts(shared.database)


def _refusals(folder: Path | None, shared: SharedState | None) -> SparseRefusals | None:
    if shared is None:
        return SparseRefusals(folder / REFUSALS) if folder else None
    from registry_pipelines.transfer.delivery.shared import SharedRefusals

    return SharedRefusals(shared.database)


def _for_orphans(shared: SharedState, owner: str) -> Mapping[str, object]:
    """What a courier needs to tell workers elsewhere how far it came; see ``blob.orphan_process``."""
    member = shared.membership
    return {
        "database": shared.settings.database.reveal(),
        "member": member.name,
        "owner": owner,
        "beat_s": member.beat_s,
    }


def _exists(path: Path) -> bool:
    """False also where nobody may look; whoever opens it says why."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises then


def _sweep(folder: Path, older_than_s: float) -> None:
    """Remove files that nobody wrote for so long and nobody holds locked."""
    oldest = time.time() - older_than_s
    try:
        paths = list(folder.rglob("*"))
    except OSError:  # nobody may look there
        return
    for path in paths:
        with contextlib.suppress(OSError):
            if not path.is_file() or path.stat().st_mtime > oldest:
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
