"""What registries hold and let go: inventories, who uses what, retention, quarantine, garbage, tags by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base
from registry_pipelines.chain.places import Located
from registry_pipelines.chain.result import StageResult
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place

if TYPE_CHECKING:
    from registry_pipelines.collect.plan import RetentionPlan
    from registry_pipelines.inventory.from_ecr import Manifests
    from registry_pipelines.inventory.value import Inventory
    from registry_pipelines.lifecycle.ecr_policy import EcrPolicy


class Keeping(Base):
    """The stages over what is there: inventory, usage, collect, tags by hand."""

    def inventory(
        self, registries: Sequence[str] = (), *, repositories: Sequence[str] = (), manifests: Manifests = "indexes"
    ) -> tuple[Inventory, StageResult]:
        """What registries hold (all of the configuration unless named), as one table, and that as a result; what could
        not be read stands in both. repositories: patterns. manifests: of ECR, which are read beside its lists. Raises
        InputError, ToolMissing."""
        from registry_pipelines.chain import inventory

        return inventory.taken(self._session, registries, repositories=repositories, manifests=manifests)

    def keep_inventory(self, registry: str) -> StageResult:
        """Read what one registry holds, and keep the table in the state folder. Raises InputError, LocalError."""
        from registry_pipelines.chain import inventory

        return inventory.keep(self._session, registry)

    def show_state(self) -> StageResult:
        """What the state has, and where it is: a folder, or what workers share. Raises LocalError."""
        from registry_pipelines.chain import state

        return state.shown(self._session)

    def move_state(self, *, dry: bool = False) -> StageResult:
        """Bring what the state folder has into the database that workers share; killed and called again it does the
        rest. dry: only say what. Raises InputError (nothing is shared), StateLocked, LocalError."""
        from registry_pipelines.chain import state

        return state.moved(self._session, dry=dry)

    def usage(self, sources: Sequence[str] = (), *, save: Path | None = None) -> StageResult:
        """Who runs what, by the sources of `usage` (all unless named). save: a file to keep it in. Raises InputError,
        LocalError."""
        from registry_pipelines.chain import usage

        return usage.told(self._session, sources, save=save)

    def preview_lifecycle(self, policy: EcrPolicy, registry: str, repositories: Sequence[str] = ()) -> StageResult:
        """A lifecycle policy on a registry of ECR beside AWS's own preview of it. Raises InputError, RegistryError."""
        from registry_pipelines.chain import lifecycle

        return lifecycle.previewed(self._session, policy, registry, repositories)

    def registries_with_rules(self) -> list[str]:
        """Registries that retention rules are about: what :meth:`plan_retention` takes."""
        from registry_pipelines.chain import collect

        return list(collect.registries_with_rules(self._session))

    def plan_retention(self, registry: str) -> RetentionPlan:
        """What a registry can let go, as a plan to read, store, approve and apply. Raises InputError."""
        from registry_pipelines.chain import collect

        return collect.plan(self._session, registry)

    def retention_plan(self, registry: str, *, save: Path | None = None, inventory: Path | None = None) -> StageResult:
        """The same plan as a result, to show: counts, a table, the plan's digest; signed, and kept in the state folder.
        Nothing is deleted. save: a further file for it. inventory: a stored one, in place of the registry."""
        from registry_pipelines.chain import collect

        return collect.planned(self._session, registry, save=save, inventory=inventory)

    def plan_deletion(self, place: Place, digest: Digest) -> RetentionPlan:
        """A plan of one entry: an image that a person wants gone, with its evidence; the entry has reasons where
        something needs it."""
        from registry_pipelines.chain import collect

        return collect.plan_deletion(place, digest, self._session)

    def delete(self, place: Place, plan: RetentionPlan) -> StageResult:
        """Apply a plan of :meth:`plan_deletion`, where nothing changed since."""
        from registry_pipelines.chain import collect

        return collect.delete(place, plan, self._session)

    def untag(self, place: Place, tag: str, digest: Digest, *, dry_run: bool = False) -> StageResult:
        """Take a tag away from an image that has others; see :func:`~registry_pipelines.chain.tagging.untag`."""
        from registry_pipelines.chain import tagging

        return tagging.untag(place, tag, digest, session=self._session, dry_run=dry_run)

    def tag(self, source: Located, tag: str, *, move: bool = False) -> StageResult:
        """Give an image one more tag in its repository; see :func:`~registry_pipelines.chain.tagging.tag_image`."""
        from registry_pipelines.chain import tagging

        return tagging.tag_image(source, tag, move=move, session=self._session)

    def collect(self, registry: str, plan: RetentionPlan) -> StageResult:
        """Apply a plan of :meth:`plan_retention` that nobody else touched, where nothing changed since. Raises
        InputError."""
        from registry_pipelines.chain import collect

        return collect.apply(self._session, registry, plan)

    def collect_approved(self, registry: str, plan: str) -> StageResult:
        """Apply a stored plan, named by digest or file, where its signature, the rules and the world still agree.
        Raises InputError, SignatureInvalid."""
        from registry_pipelines.chain import collect

        return collect.apply_approved(self._session, registry, plan)

    def garbage(
        self, registry: str, *, dry_run: bool = False, grace_s: float | None = None, if_here: bool = False
    ) -> StageResult:
        """Free unreferenced blobs of a registry whose files are here; of others, say who does. Raises InputError."""
        from registry_pipelines.chain import garbage

        return garbage.garbage(self._session, registry, dry_run=dry_run, grace_s=grace_s, if_here=if_here)

    def check_garbage(self, registry: str, text: str) -> StageResult:
        """Whether what a registry's own collector says it would delete is needed. Raises InputError, RegistryError."""
        from registry_pipelines.chain import garbage

        return garbage.checked(self._session, registry, text)

    def quarantined(self, registry: str) -> StageResult:
        """What plans set aside in a registry, and until when."""
        from registry_pipelines.chain import quarantine

        return quarantine.quarantined(self._session, registry)

    def undo_collect(self, registry: str, references: Sequence[str], *, plan: str = "") -> StageResult:
        """Bring back what was set aside: images by ``repository:tag`` or ``repository@digest``, or all of a plan."""
        from registry_pipelines.chain import quarantine

        return quarantine.undo(self._session, registry, references, plan=plan)

    def purge(self, registry: str, *, dry_run: bool = False) -> StageResult:
        """Delete for good what was set aside and whose time is over."""
        from registry_pipelines.chain import quarantine

        return quarantine.purge(self._session, registry, dry_run=dry_run)
