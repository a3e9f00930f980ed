"""What registries in clouds are set to, and what they tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base
from registry_pipelines.chain.result import StageResult

if TYPE_CHECKING:
    from registry_pipelines.chain.events import Heard
    from registry_pipelines.events.told import Fact
    from registry_pipelines.infra.plan import Plan as InfraPlan
    from registry_pipelines.infra.terraform.aws import AwsVersion
    from registry_pipelines.infra.terraform.writing import Written as Terraform
    from registry_pipelines.report.metrics.settings import Destination


class Clouds(Base):
    """The stages over clouds: settings, Terraform, events, numbers."""

    def hear(self, registry: str, *, most: int, hold_s: int) -> Heard:
        """What a registry's events tell, up to so many messages; each is held for ``hold_s`` seconds, and comes again
        unless :meth:`acknowledge` drops it. What cannot be read is kept aside, what is no hint is kept for
        :meth:`told`. Raises InputError for a registry without events."""
        from registry_pipelines.chain import events

        return events.hear(self._session, registry, most=most, hold_s=hold_s)

    def acknowledge(self, registry: str, receipts: Sequence[str]) -> int:
        """Drop messages that were acted on; how many could not be dropped, and come again."""
        from registry_pipelines.chain import events

        return events.source_of(self._session, registry).acknowledge(receipts)

    def check_events(self, registries: Collection[str] = ()) -> StageResult:
        """Whether the queues of registries answer, and what they told last. Raises InputError where none has one."""
        from registry_pipelines.chain import event_looks

        return event_looks.check_events(self._session, registries)

    def show_events(self, registry: str, *, most: int = 10) -> StageResult:
        """What waits in a registry's queue; it stays there."""
        from registry_pipelines.chain import event_looks

        return event_looks.show_events(self._session, registry, most=most)

    def told(self, registry: str) -> list[Fact]:
        """What events told last about a registry's scans, replications and caches, the newest first."""
        from registry_pipelines.chain import events

        return events.told(self._session, registry)

    def registries_with_settings(self) -> list[str]:
        """Registries in clouds whose settings are declared: what :meth:`plan_infra` takes."""
        from registry_pipelines.chain import infra

        return list(infra.registries(self._session))

    def check_infra(self, registries: Sequence[str] = ()) -> None:
        """Read all that is declared of registries (all unless named). Raises ConfigInvalid with everything that is
        wrong, InputError; asks nothing."""
        from registry_pipelines.chain import infra

        infra.declared(self._session, registries)

    def plan_infra(self, registry: str) -> InfraPlan:
        """What a registry's settings need to be as declared, as a plan to read, store, approve and apply. Raises
        InputError, ConfigInvalid, RegistryError."""
        from registry_pipelines.chain import infra

        return infra.plan(self._session, registry)

    def drift(self, registry: str) -> StageResult:
        """Whether a registry's settings are as declared; ``reasons`` name each field that is not. Changes nothing."""
        from registry_pipelines.chain import infra

        return infra.drift(self._session, registry)

    def apply_infra(self, registry: str, plan: InfraPlan | None = None) -> StageResult:
        """Make a registry's settings as declared, by a plan of :meth:`plan_infra` that was approved, else by one of
        now. Raises InputError, ConfigInvalid, RegistryError."""
        from registry_pipelines.chain import infra

        return infra.apply(self._session, registry, plan)

    def import_infra(
        self, registry: str, *, folder: str = "", terraform: Mapping[str, bytes] | None = None
    ) -> tuple[str, dict[str, bytes], list[str]]:
        """What is there of a registry, as it would be declared: YAML, policy files by path, what is left out.
        terraform: files of Terraform by name, which are read in the cloud's place. Raises InputError, RegistryError."""
        from registry_pipelines.chain import infra, infra_terraform

        if terraform:
            return infra_terraform.imported(self._session, registry, terraform, folder=folder)
        return infra.imported(self._session, registry, folder=folder)

    def terraform(self, registries: Sequence[str] = (), *, aws: AwsVersion = 6, take_over: bool = False) -> Terraform:
        """What is declared of registries (all unless named) as files of Terraform; see
        :func:`~registry_pipelines.infra.terraform.writing.write`. Asks nothing. Raises InputError, ConfigInvalid."""
        from registry_pipelines.chain import infra_terraform

        return infra_terraform.written(self._session, registries, aws=aws, take_over=take_over)

    def metrics(
        self,
        *,
        to: Sequence[Destination] | None = None,
        inventory: Path | None = None,
        file: Path | None = None,
    ) -> StageResult:
        """Count what registries hold and how old things are, and tell that; see :func:`chain.metrics.told`. Raises
        InputError, LocalError."""
        from registry_pipelines.chain import metrics

        return metrics.told(self._session, to=to, inventory=inventory, file=file)

    def scrape(self, *, every_s: float, inventory: Path | None = None) -> Callable[[], str]:
        """What a scrape of Prometheus is answered; numbers are collected again once they are so old."""
        from registry_pipelines.chain import metrics

        return metrics.scrape(self._session, every_s=every_s, inventory=inventory)

    def dashboards(self) -> dict[str, bytes]:
        """Dashboards and alert rules by file name; asks nothing."""
        from registry_pipelines.chain import metrics_files

        return metrics_files.files(self._session)
