"""What carries images: to targets, through mirrors, in bundles across a gap, by syncs; and to where they run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.methods import Base
from registry_pipelines.chain.result import StageResult
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.chain.bundle_inbox import Inbox
    from registry_pipelines.chain.failover_drill import DrillOptions
    from registry_pipelines.chain.restore import Wanted
    from registry_pipelines.mirror.model import ClusterForm
    from registry_pipelines.settings import Size
    from registry_pipelines.transfer.sync import SyncResult
    from registry_pipelines.transfer.verify import Comparison


class Moving(Base):
    """The stages that copy: replicate, mirror, bundles, sync; and roll-outs."""

    def replicate(self, release: Release, target: str) -> StageResult:
        """Copy a promoted release to one target; for several see :meth:`replicate_to`. Raises PromotionDenied, and what
        ended the copy."""
        from registry_pipelines.chain import replicate

        return replicate.replicate(self._session, release, target)

    def replicate_to(self, release: Release, targets: Sequence[str]) -> dict[str, StageResult | RegistryPipelinesError]:
        """Copy a promoted release to several targets, each blob read once; by target its result, or what ended it.
        Raises PromotionDenied, InputError, LocalError."""
        from registry_pipelines.chain import replicate

        return replicate.replicate_to(self._session, release, targets)

    def compare_replica(self, release: Release, target: str) -> Comparison:
        """What differs at a target, and what was not compared; read only, also long after a copy."""
        from registry_pipelines.chain import replicate

        return replicate.compare_replica(self._session, release, target)

    def mirror_release(self, release: Release, name: str) -> StageResult:
        """Copy a promoted release through the DMZ, to the private registry of a mirror. Raises PromotionDenied."""
        from registry_pipelines.chain import mirror_release

        return mirror_release.mirror_release(self._session, release, name)

    def mirror(self, name: str, *, upstream: str = "", dry_run: bool = False) -> StageResult:
        """Bring a mirror's foreign images up to date; meant for every night. upstream: only this one. dry_run: only say
        what would be done, and what it takes of the upstreams' quotas."""
        from registry_pipelines.chain import mirror

        return mirror.mirror(self._session, name, upstream=upstream, dry_run=dry_run)

    def lock_mirror(self, name: str, *, dry_run: bool = False, check: bool = False) -> StageResult:
        """Write what a mirror takes into its lock, by digest. dry_run: only say what would change. check: and not
        ``ok`` where anything would. Raises InputError for a mirror without ``lock``, LocalError."""
        from registry_pipelines.chain import mirror_lock

        return mirror_lock.lock(self._session, name, dry_run=dry_run, check=check)

    def mirror_age(self, name: str, *, upstream: str = "") -> StageResult:
        """How long ago each upstream of a mirror was last brought whole, by what the registry knows. Read only."""
        from registry_pipelines.chain import mirror_record

        return mirror_record.age(self._session, name, upstream=upstream)

    def compare_mirror(self, name: str, *, upstream: str = "") -> StageResult:
        """Whether a mirror's private registry holds what its DMZ does, digest for digest. Read only."""
        from registry_pipelines.chain import mirror_compare

        return mirror_compare.same_everywhere(self._session, name, upstream=upstream)

    def clusters(self, name: str, form: ClusterForm, folder: Path) -> StageResult:
        """Write the files by which clusters find what a mirror brought. Raises InputError with all that the form cannot
        say."""
        from registry_pipelines.chain import clusters

        return clusters.clusters(self._session, name, form, folder)

    def create_bundle(
        self,
        name: str,
        folders: Sequence[Path],
        *,
        part_size: Size | None = None,
        full: bool = False,
        with_tool: bool = False,
        receipts: Sequence[Path] = (),
        restart: bool = False,
        only_new: bool = False,
    ) -> StageResult:
        """Write a mirror's next bundle into folders, or the rest of a half made one; see
        :class:`~registry_pipelines.chain.bundle_create.Creating`. Raises DiskFull, ContentError, RegistryError,
        InputError."""
        self._session.mirror(name)  # before anything heavy is loaded
        from registry_pipelines.chain.bundle_create import Creating, create

        asked = Creating(
            folders=folders,
            part_size=part_size,
            full=full,
            with_tool=with_tool,
            receipts=receipts,
            restart=restart,
            only_new=only_new,
        )
        return create(self._session, name, asked)

    def bundle_in_folder(self, name: str) -> StageResult:
        """Make a mirror's next bundle in its ``bundle.folder``, where there is something new; receipts that lie there
        are taken in first. Raises as :meth:`create_bundle`."""
        self._session.mirror(name)
        from registry_pipelines.chain import bundle_create

        return bundle_create.create_in_folder(self._session, name)

    def bundle_again(
        self, name: str, number: int, parts: Sequence[int], folder: Path, *, line: str = ""
    ) -> StageResult:
        """Make some parts of a finished bundle once more, byte for byte. line: of the bundle, by a request; not asked
        unless told. Raises InputError, ContentError."""
        from registry_pipelines.chain.bundle_create import create_again

        return create_again(self._session, name, number, parts, folder, line=line)

    def bundles(self, name: str, *, receipts: Sequence[Path] = ()) -> StageResult:
        """The bundles that were made of a mirror here, and what far sides confirmed. receipts: taken in first. Raises
        SignatureInvalid, InputError."""
        from registry_pipelines.chain import bundle_list

        return bundle_list.listed(self._session, name, receipts)

    def load_bundles(
        self,
        name: str,
        folders: Sequence[Path],
        *,
        numbers: Collection[int] = (),
        move_back: bool = False,
        receipt: Path | None = None,
    ) -> StageResult:
        """Load the bundles of a mirror that are on media into its private registry; all is verified before anything is
        written. Raises ContentError, SignatureInvalid, InputError."""
        from registry_pipelines.chain import bundle_load

        return bundle_load.load(self._session, name, folders, numbers=numbers, move_back=move_back, receipt=receipt)

    def inbox(self, name: str) -> Inbox:
        """What lies in a mirror's inbox and was not loaded before; nothing is read but documents."""
        from registry_pipelines.chain import bundle_inbox

        return bundle_inbox.look_into(self._session, name)

    def load_inbox(self, name: str) -> StageResult:
        """Load what is new in a mirror's inbox, each bundle that is whole, and write the receipt beside them."""
        from registry_pipelines.chain import bundle_inbox

        return bundle_inbox.load_inbox(self._session, name)

    def bundle_receipt(self, name: str, to: Path) -> StageResult:
        """Read back all that bundles of a mirror brought, and write the signed receipt for the near side."""
        from registry_pipelines.chain import bundle_load

        return bundle_load.write_receipt(self._session, name, to)

    def sync(self, name: str, *, dry_run: bool = False) -> StageResult:
        """Bring many repositories to many targets in one plan; with ``dry_run`` only the plan's table. Raises
        InputError, RegistryError when the source cannot be listed."""
        from registry_pipelines.chain import sync

        return sync.sync(self._session, name, dry_run=dry_run)

    def syncs(self, names: Sequence[str], *, dry_run: bool = False) -> dict[str, StageResult]:
        """Several syncs in one plan; by name what became of each. Raises as :meth:`sync`."""
        from registry_pipelines.chain import sync

        return sync.syncs(self._session, names, dry_run=dry_run)

    def plan_syncs(self, names: Sequence[str]) -> dict[str, SyncResult]:
        """What :meth:`syncs` would do now, as plans to read and store, and what cannot be read at the sources."""
        from registry_pipelines.chain import sync

        return sync.run(self._session, names, dry_run=True)

    def backup(self, name: str) -> StageResult:
        """Bring what is new to the place of a backup, and sign what every tag names now. Raises InputError (no key of
        the promoter), RegistryError where that cannot be written."""
        from registry_pipelines.chain import backup

        return backup.backup(self._session, name)

    def moments(self, name: str) -> StageResult:
        """The moments of a backup; not ``ok`` where the newest one is too old."""
        from registry_pipelines.chain import moments

        return moments.moments(self._session, name)

    def restore(self, name: str, wanted: Wanted, *, dry_run: bool = False) -> StageResult:
        """Bring images of a moment back under the tags that they had. Raises InputError (the place is not empty),
        EvidenceMissing (nobody who is believed signed the moment), RegistryError."""
        from registry_pipelines.chain import restore

        return restore.restore(self._session, name, wanted, dry_run=dry_run)

    def moment(self, name: str, *, at: str = "", files: Path | None = None) -> StageResult:
        """One moment of a backup; ``files`` takes the configuration and settings that were kept with it."""
        from registry_pipelines.chain import moments

        return moments.show(self._session, name, at=at, files=files)

    def expire(self, name: str, *, dry_run: bool = False) -> StageResult:
        """Let the moments of a backup go that its ``keep`` does not keep, and what only they needed."""
        from registry_pipelines.chain import expire

        return expire.expire(self._session, name, dry_run=dry_run)

    def drill(self, name: str, *, at: str = "", newest: int = 0, start: bool = True) -> StageResult:
        """Restore a moment into empty registries here, and hold it against what it says. Raises as :meth:`restore`."""
        from registry_pipelines.chain import drill

        return drill.drill(self._session, name, at=at, newest=newest, start=start)

    def deploy(self, name: str, release: Release | None = None, *, dry_run: bool = False) -> StageResult:
        """Roll out what the channel of a deployment names, read back what runs, and attach the signed note of it; not
        ``ok`` where it did not come up. What went wrong is told, see :meth:`notify`. Raises PromotionDenied, NotFound,
        InputError, Forbidden, RegistryError."""
        self._session.deployment(name)  # before anything heavy is loaded
        from registry_pipelines.chain import deploy

        result = deploy.deploy(self._session, name, release, dry_run=dry_run)
        if result.ok:
            return result
        subject = Release.parse(str(result.facts["release"]))
        told = self.notify("failed", subject, stage="deploy", what=result.action, reasons=result.reasons)
        return replace(result, notes=[*result.notes, *told])

    def deploy_due(self, name: str) -> tuple[Release, str] | None:
        """The release that a deployment is to roll out or read back now, and a word that changes with the reason; None
        for nothing. Read only. Raises PromotionDenied, RegistryError."""
        from registry_pipelines.chain import deploy

        return deploy.due(self._session, name)

    def failover(
        self, name: str = "", *, images: Sequence[str] = (), to: Path | None = None, dry_run: bool = True
    ) -> StageResult:
        """Which registry nodes ask first, and whether another has what they need; see
        :func:`~registry_pipelines.chain.failover_plan.failover`."""
        from registry_pipelines.chain import failover_plan

        return failover_plan.failover(self._session, name, images=images, to=to, dry_run=dry_run)

    def failover_drill(self, name: str, options: DrillOptions) -> StageResult:
        """Pull with the clients of this machine while a stand-in of the first registry is down. Raises InputError,
        ToolMissing, LocalError, RegistryError."""
        from registry_pipelines.chain import failover_drill

        return failover_drill.failover_drill(self._session, name, options)

    def ways(self, images: Sequence[str] = ()) -> StageResult:
        """Which way each image (all unless named) takes to each target, by ECR itself or by our copies, and why."""
        from registry_pipelines.chain import ways

        return ways.described(self._session, images)

    def replication_lag(self, images: Sequence[str] = ()) -> StageResult:
        """How far each target is behind what the channels name at the source; ``facts["lag_s SOURCE -> TARGET"]``."""
        from registry_pipelines.chain import ways

        return ways.replication_lag(self._session, images)

    def weights_at_source(self, name: str) -> str:
        """Digest of the set that the source of a section of `weights` has now. Raises NotFound where there is none, or
        one that is not whole; InputError, ContentError, RegistryError."""
        from registry_pipelines.chain import kept_weights

        return kept_weights.weights_at_source(self._session, name)

    def bring_weights(self, name: str) -> StageResult:
        """Have the set of a section of `weights` at all its targets, and attached to its release. Raises what the
        source raises, SignatureInvalid; what ended a target is in the result."""
        from registry_pipelines.chain import kept_weights

        return kept_weights.bring_weights(self._session, name)

    def check_weights(self, name: str) -> StageResult:
        """Whether the set of a section of `weights` is whole at all its targets, attached, and signed where it must
        be. Read only."""
        from registry_pipelines.chain import kept_weights

        return kept_weights.check_weights(self._session, name)
