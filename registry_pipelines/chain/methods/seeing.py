"""What is asked about everything: what it costs, who shipped this, how good our practice is, what moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base
from registry_pipelines.chain.result import StageResult

if TYPE_CHECKING:
    from registry_pipelines.chain.audit import Wanted
    from registry_pipelines.chain.html_pages import Written
    from registry_pipelines.inventory.value import Inventory
    from registry_pipelines.promote.person import Person
    from registry_pipelines.registry.embedded.http_server import HttpServer
    from registry_pipelines.report.custody import Custody
    from registry_pipelines.report.html.plots import Plot
    from registry_pipelines.report.maturity import Maturity


class Seeing(Base):
    """The reports."""

    def cost(
        self,
        registries: Sequence[str] = (),
        *,
        stored: Path | None = None,
        by: str = "",
        months: int = 6,
        prices: Path | None = None,
        manifests: str = "",
    ) -> StageResult:
        """What registries cost a month, all unless named, with the trend of kept runs; a run over all is kept. stored:
        an inventory's file in place of them. manifests: ``auto`` or ``all`` of those in clouds. Raises InputError,
        ToolMissing, LocalError."""
        from registry_pipelines.chain import cost

        return cost.report_cost(
            self._session, registries, stored=stored, by=by, months=months, prices=prices, manifests=manifests
        )

    def sweep(
        self, kind: str, *, bucket: str = "", since: datetime | None = None, most: int | None = None
    ) -> StageResult:
        """Sweep a fleet, or one of its 256 buckets: ``drift``, ``lag`` or ``cost``. since: what was wholly swept from
        then on is passed over. most: releases of a bucket that are compared. Raises InputError, ToolMissing,
        LocalError, StateLocked (another process has the bucket)."""
        from registry_pipelines.chain import sweeps

        named = sweeps.kind_of(kind)
        return sweeps.sweep(self._session, named, bucket=bucket, since=since, most=most or sweeps.MOST)

    def sweep_buckets(
        self, kind: str, buckets: Sequence[str], *, since: datetime | None = None
    ) -> Iterator[tuple[str, StageResult | None]]:
        """Each of some buckets with its result, as it is done; None for one that another process has. Raises the same
        as :meth:`sweep`."""
        from registry_pipelines.chain import sweeps

        return sweeps.swept(self._session, sweeps.kind_of(kind), buckets, since=since)

    def swept(self, kind: str, *, parquet: Path | None = None) -> StageResult:
        """What the last sweeps of all buckets found, together; asks no registry. parquet: a file for all rows. Raises
        InputError, ToolMissing, LocalError."""
        from registry_pipelines.chain import sweeps

        return sweeps.shown(self._session, sweeps.kind_of(kind), parquet=parquet)

    def with_costs(self, result: StageResult, inventory: Inventory, *, prices: Path | None = None) -> StageResult:
        """The result of an inventory with what its storage costs: ``tables["costs"]``. Raises InputError."""
        from registry_pipelines.chain import cost

        return cost.with_costs(self._session, result, inventory, prices=prices)

    def over_budget(self, result: StageResult) -> list[str]:
        """What of ``report.budget`` a result of :meth:`cost` is above."""
        from registry_pipelines.chain import cost

        return cost.over_budget(self.config, result)

    def prices(self, prices: Path | None = None) -> StageResult:
        """The price book, its age, and what it lacks. Raises InputError."""
        from registry_pipelines.chain import prices as book

        return book.show_prices(self._session, prices)

    def refresh_prices(self, *, to: Path | None = None, prices: Path | None = None) -> StageResult:
        """Ask the clouds' price lists and write a book of one's own. Raises InputError, LocalError."""
        from registry_pipelines.chain import price_refresh

        return price_refresh.refresh(self._session, to=to, prices=prices)

    def audit(self, wanted: Wanted | None = None, *, read: bool = True, sources: Sequence[str] = ()) -> StageResult:
        """Who pushed, deleted, pulled and changed settings, and what of it nothing signed explains; ``tables`` has the
        alerts, single events and what was read. read: the logs first (all unless named), else what is kept is all. A
        log that cannot be read is told, and the rest goes on. Raises InputError, LocalError, StateLocked."""
        from registry_pipelines.chain import audit

        return audit.audit(self._session, wanted or audit.Wanted(), read=read, sources=sources)

    def team_of(self, repository: str) -> str:
        """Whose a repository is, by the patterns of `report.teams`; empty for nobody's."""
        from registry_pipelines.chain import audit

        return audit.team_of(self._session, repository)

    def receiver(self, source: str) -> HttpServer:
        """What takes the notifications of a log of `report.audit.sources`, not started. Raises InputError."""
        from registry_pipelines.chain import audit_sources

        return audit_sources.receiver(self._session, source)

    def acknowledge_alerts(self, alerts: Sequence[str], reason: str, by: Person | None = None) -> StageResult:
        """Sign that a person looked at alerts of :meth:`audit`, and why they are no harm. by: who; the account of this
        process unless told. Raises InputError, LocalError."""
        from registry_pipelines.chain import audit_alerts

        return audit_alerts.acknowledge_alerts(self._session, tuple(alerts), reason, by)

    def pipelines(
        self, names: Sequence[str] = (), *, folder: Path | None = None, check: bool = False, over: bool = False
    ) -> StageResult:
        """Write the files of CI pipelines that the configuration has. Raises InputError, ConfigInvalid, LocalError."""
        from registry_pipelines.chain import pipelines

        return pipelines.pipelines(self._session, names, folder=folder, check=check, over=over)

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
        for name in images:
            self._session.image(name)  # a slip is said before fifty modules are loaded
        from registry_pipelines.chain import maturity

        return maturity.maturity(self._session, images)

    def write_pages(self, folder: Path) -> Written:
        """Write pages of how it all stands, which open without a server. Raises InputError, LocalError, DiskFull."""
        from registry_pipelines.chain import html_pages

        return html_pages.write_pages(self._session, folder)

    def practice(self) -> StageResult:
        """:meth:`maturity` of everything as a result. Not ``ok`` where something is below `report.least_tier`."""
        from registry_pipelines.chain import maturity

        return maturity.told(self._session)

    def below_tier(self, found: Maturity) -> list[str]:
        """What is below `report.least_tier`, a sentence each."""
        from registry_pipelines.chain import maturity

        return maturity.below(self._session, found)

    def plots(self, *names: str) -> list[Plot]:
        """What was kept over time, drawn: ``cost``, ``cost-bytes``, ``bytes``, ``lag``, ``advisories``, ``pulls``. What
        nobody measured is a plot that says so."""
        from registry_pipelines.chain import series

        return series.plots(self._session, names=names)[0]
