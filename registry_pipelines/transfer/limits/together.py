"""Quotas that a registry announces, kept by all workers on one state: pulls are given out before they are sent.

Docker Hub counts an address, or an account, so the answer to one worker tells all that are counted with it how many
are left. What others have taken and not sent yet is not left any more: together they send what there is, and no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry_pipelines.registry.protocol import Quota
from registry_pipelines.shared.budget_tables import StockAnswer, Told, quotas_of
from registry_pipelines.shared.budgets import Budgets, Stock
from registry_pipelines.transfer.limits.buckets import Bucket
from registry_pipelines.transfer.limits.budgets import Budget
from registry_pipelines.transfer.limits.quotas import QuotaGate


class SharedQuotaGate(QuotaGate):
    """A QuotaGate of all workers on one state."""

    def __init__(self, budgets: Budgets, registry: str) -> None:
        super().__init__(Bucket(None))
        self._budgets, self._registry = budgets, registry
        self._stock: Stock | None = None
        """Of who is counted here; None until the registry told."""
        self._first = threading.Lock()
        self._asked = False

    def observe(self, quota: Quota) -> None:
        """See QuotaGate."""
        self._last = quota
        stock = self._stock = self._budgets.stock(self._registry, quota.source)
        stock.observe(Told(quota.limit, quota.remaining, quota.window_s, 0.0, quota.resets_after_s))

    def budget(self) -> Budget | None:
        """See QuotaGate."""
        known = self._stock.known() if self._stock else next(iter(self._known_of_all()), None)
        if known is None:
            return None
        now = time.time()
        return Budget(
            self._registry,
            known.most,
            known.remaining,
            known.window_s,
            now + known.until_s,
            now - known.told_s,
            known.source,
        )

    @contextmanager
    def pull(self, where: str, look: Callable[[], object]) -> Iterator[None]:
        """See QuotaGate."""
        if self._stock is None and not self._asked:
            with self._first:
                if not self._asked and self._known_of_all():  # what others were told may be about us: a question that
                    self._look(look)  # is not counted says so, before any that is
                self._asked = True
        self.wait(where, look)
        taken_of = self._stock
        try:
            yield
        finally:
            if taken_of is not None:
                taken_of.done()

    def _left_s(self) -> float:
        return self._stock.take() if self._stock is not None else 0.0

    def _known_of_all(self) -> list[StockAnswer]:
        return self._budgets.ask(lambda database: quotas_of(database, self._registry)) or []


__all__ = ["SharedQuotaGate"]
