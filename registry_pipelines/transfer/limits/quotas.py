"""Quotas that a registry announces itself: so many manifests in some hours (Docker Hub), counted by its own answers.

Only what is counted waits: at Docker Hub GETs of manifests, not HEADs, tags or blobs. A window of hours is not waited
for; the error says until when, and the same call then does the rest.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.registry.client.quotas import quota_spent
from registry_pipelines.registry.protocol import Quota
from registry_pipelines.transfer.flow.patience import NO_PROGRESS_S
from registry_pipelines.transfer.limits.buckets import Bucket
from registry_pipelines.transfer.limits.budgets import Budget, BudgetBook
from registry_pipelines.waits import Wait, host_of

LOOK_EVERY_S = 10.0
"""Between two looks whether there are new requests. Windows may slide, and whoever logs in is counted apart, so an
earlier answer is not believed for hours; a look is a HEAD, which is not counted."""


class QuotaGate:
    """Lets requests pass while the registry gives any. bucket: holds until when there are none, for all processes.

    book: remembers what the registry announced last, for plans. patience_s: longer than this is not waited. clock:
    monotonic seconds.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        book: BudgetBook | None = None,
        patience_s: float = NO_PROGRESS_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket, self._patience_s, self._clock, self._sleep = bucket, patience_s, clock, sleep
        self._book = book or BudgetBook(None, "")
        self.taken = 0
        """Requests that were let pass here and that such a registry counts; close enough, for it is only told."""
        self._last: Quota | None = None
        self._looking = threading.Lock()
        self._looked_at: float | None = None

    def observe(self, quota: Quota) -> None:
        """Learn from an answer. While there is nothing left, the first answer that said so sets the end."""
        self._last = quota
        self._book.note(quota)
        spent = self._bucket.wait_s() > 0
        if quota.remaining and spent:
            self._bucket.release()
        elif not quota.remaining and not spent:
            self._bucket.block(quota.wait_s)

    def budget(self) -> Budget | None:
        """What is left, and until when; None for a registry that announces nothing."""
        return self._book.current()

    @contextmanager
    def pull(self, where: str, look: Callable[[], object]) -> Iterator[None]:
        """One request that is counted: as :meth:`wait`, then it is under way."""
        self.wait(where, look)
        yield

    def wait(self, where: str, look: Callable[[], object]) -> None:
        """Pass at once while there are requests left; else look again (a request that is not counted), and wait within
        the patience. Raises QuotaSpent, which says until when."""
        self.taken += 1
        began = self._clock()
        while (left_s := self._left_s()) > 0:
            if self._look(look):
                continue
            if self._clock() - began + left_s > self._patience_s:
                raise quota_spent(self._last, left_s, where=where)
            with Wait(host_of(where), "its quota for reading manifests is used up", left_s=left_s):
                self._sleep(min(left_s, LOOK_EVERY_S))

    def _left_s(self) -> float:
        """Seconds until there are requests left; 0 when there are."""
        return self._bucket.wait_s()

    def _look(self, look: Callable[[], object]) -> bool:
        """Whether somebody had to look just now; others wait for what is found."""
        with self._looking:
            now = self._clock()
            if self._looked_at is not None and now - self._looked_at < LOOK_EVERY_S:
                return False
            self._looked_at = now
            with contextlib.suppress(RegistryPipelinesError):
                look()
            return True
