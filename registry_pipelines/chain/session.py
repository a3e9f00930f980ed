"""What all stages of a chain share: configuration, open registries, keys, progress."""

from __future__ import annotations

from contextlib import AbstractContextManager
from copy import copy
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, cast

import msgspec

from registry_pipelines.chain.documents import documents_of
from registry_pipelines.chain.keys import Keyring
from registry_pipelines.chain.places import Places, join_repository
from registry_pipelines.config import Config, Image, Mirror
from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import held_alone
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.promote.bases import KnownBase
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.order import Channel
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.remembered import remembered
from registry_pipelines.release import Release
from registry_pipelines.settings import unknown
from registry_pipelines.shared.documents import Documents

if TYPE_CHECKING:  # keys bring the cryptography along, and most stages need none; copies have their own forty modules
    from registry_pipelines.deploying.model import DeploySettings
    from registry_pipelines.evidence.keys import KeySet
    from registry_pipelines.shared.leases import Lease
    from registry_pipelines.shared.state import SharedState
    from registry_pipelines.transfer.delivery.receipts import ReceiptSigner, ReceiptStore
    from registry_pipelines.transfer.engine import Engine


BASES_KNOWN_S = 60
"""Seconds for which what the tags of bases name is not asked again: a sweep judges hundreds of releases."""


def _shared_of(config: Config) -> SharedState | None:
    if not config.shared.database:
        return None
    from registry_pipelines.chain.shared import shared_of  # one machine needs none

    return shared_of(config)


def _check_clock(shared: SharedState | None) -> None:
    """Raise LocalError where workers share a state, and this one's clock is not theirs."""
    if shared is not None:
        shared.membership.check()


class Session:
    """One chain's tools; safe to use from many threads."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self.config = config
        self.progress = progress
        self.shared = _shared_of(config)
        """What many workers have together, where the configuration names it; opened when it is first used."""
        self.places = Places(config)
        self.keys = Keyring(config, partial(_check_clock, self.shared))
        self._memory: dict[str, Registry] | None = None
        self._remembers_lists = False
        self._bases: dict[str, tuple[float, tuple[KnownBase, ...]]] = {}

    def with_progress(self, progress: Progress) -> Session:
        """The same session, open registries and limits included, with its progress told to ``progress``."""
        session = copy(self)
        session.progress = progress
        return session

    def remembering(self, *, whole: bool = False) -> Session:
        """The same session for one piece of work, which asks a source once for what has a digest. Begun anew by who
        decides: its evidence must have been read by then, and not before. whole: for a short look at one release, see
        :func:`~registry_pipelines.registry.remembered.remembered`."""
        session = copy(self)
        session._memory, session._remembers_lists = {}, whole
        return session

    @property
    def documents(self) -> Documents:
        """What stages keep in the state for the next run, on whatever machine that is."""
        return documents_of(self.config)

    def engine(self, *, receipts: bool = True) -> Engine:
        """What images are copied and built with: journal, receipts and known manifests below the state folder, or in
        what workers share. Limits are on the registries of :attr:`places`. receipts: False for what
        writes none, and needs no key for them; a machine without the promoter's key writes them without a signature.
        Raises InputError for a key that cannot be read, LocalError for a clock that has gone wrong."""
        from registry_pipelines.transfer.engine import Engine

        signer = self.keys.at_hand("promoter", make=False) if receipts else None
        return Engine(
            state=self.config.state / "transfer",
            shared=self.shared,
            signer=cast("ReceiptSigner | None", signer),
            progress=self.progress,
        )

    def receipts(self) -> ReceiptStore:
        """The receipts of copies. Raises LocalError and the like where a shared state cannot be used."""
        from registry_pipelines.transfer.state import receipts_of

        return cast("ReceiptStore", receipts_of(self.config.state / "transfer", self.shared))

    def alone(
        self, name: str, what: str, *, do: str = "Wait for it; once is enough", wait_s: float = 0.0
    ) -> AbstractContextManager[Lease | None]:
        """Do something as the only one: of all workers by a lease where they share a state, else of this machine by the
        lock ``NAME.lock`` in the state folder. name: what is done to what, as ``collect/HOST``. what: another does that
        holds it. wait_s: how long to wait for it; unless told it is refused at once. The lease is for who goes on for
        long, and asks it between steps. Raises StateLocked, LocalError."""
        if self.shared is not None:
            return self.shared.leases.held(name, what, do=do, wait_s=wait_s)
        return held_alone(self.config.state / f"{name}.lock", what, do=do, wait_s=wait_s)

    def image(self, name: str) -> Image:
        """An image of the configuration. Raises InputError with the closest name."""
        image = self.config.images.get(name)
        if image is None:
            raise InputError(unknown(name, self.config.images, "image"), do="Name an image of the configuration")
        return image

    def policy(self, release: Release) -> Policy:
        """The policy a release must satisfy. Raises InputError for an unknown image."""
        return self.policy_of(self.image(release.image))

    def policy_of(self, image: Image, channel: Channel | None = None) -> Policy:
        """The policy of an image, or of one of its channels, with what its VEX files say now, and the bases it may
        stand on. Raises InputError for a file that cannot be read, so that nothing is judged without it, and as
        :meth:`known_bases`."""
        return self.named_policy((channel.policy if channel else None) or image.policy)

    def named_policy(self, name: str) -> Policy:
        """A policy of the configuration, with the same. Raises as :meth:`policy_of`."""
        policy = self.config.policies[name]
        if policy.vex:
            from registry_pipelines.chain.vex_files import with_vex

            policy = with_vex(policy)
        if policy.attestors:
            known = self.config.trust.attestors
            attested = tuple((name, known[name].attests) for name in policy.attestor_names if name in known)
            policy = msgspec.structs.replace(policy, attested=attested)
        if "approved-base" in policy.required:
            policy = msgspec.structs.replace(policy, known_bases=self.known_bases())
        return policy

    def known_bases(self) -> tuple[KnownBase, ...]:
        """Every base that is known, as its registry had it within the last minute. Raises RegistryError for one that
        cannot be read and was never read before, LocalError."""
        from registry_pipelines.chain.bases import known_bases

        at, known = self._bases.get("", (0.0, ()))
        if not known or monotonic() - at > BASES_KNOWN_S:
            at, known = monotonic(), known_bases(self)
            self._bases[""] = (at, known)
        return known

    def mirror(self, name: str) -> Mirror:
        """A mirror by name. Raises InputError with the closest name."""
        mirror = self.config.mirrors.get(name)
        if mirror is None:
            raise InputError(unknown(name, self.config.mirrors, "mirror"), do="Name a mirror of the configuration")
        return mirror

    def deployment(self, name: str) -> DeploySettings:
        """A deployment by name. Raises InputError with the closest name."""
        settings = self.config.deploy.get(name)
        if settings is None:
            raise InputError(unknown(name, self.config.deploy, "deployment"), do="Name one of `deploy`")
        return settings

    def stops(self, mirror: Mirror, repository: str) -> list[Place]:
        """The places that something goes through in a mirror, the private one last: as far as the network goes."""
        path = join_repository(mirror.prefix, repository)
        return [Place(self.places.registry(name), path) for name in mirror.stops]

    def places_of(self, image: Image) -> list[Place]:
        """Everywhere an image's releases are, or may come to be: the source, its targets, the stops of its mirrors."""
        mirrors = [mirror for mirror in self.config.mirrors.values() if image.name in mirror.images]
        return [
            self.places.source(image),
            *(self.places.target(image, target) for target in image.targets),
            *(stop for mirror in mirrors for stop in self.stops(mirror, image.repository)),
        ]

    def consumers(self, release: Release, policy: Policy | None = None) -> list[str]:
        """Repositories where others verify a release and compare what was signed with where they pull from: those of
        its image at the targets and mirrors that a policy of its channels names; all of them unless told."""
        image = self.image(release.image)
        policies = [policy] if policy else [self.policy_of(image, channel) for channel in image.order]
        named = dict.fromkeys(name for each in policies for name in each.consumers)
        targets = [self.places.target(image, name) for name in named if name in image.targets]
        mirrors = [self.config.mirrors[name] for name in named if name in self.config.mirrors]
        private = [self.stops(mirror, image.repository)[-1] for mirror in mirrors if image.name in mirror.images]
        return [str(place) for place in (*targets, *private)]

    def source(self, release: Release) -> Place:
        """Where a release is. Raises InputError for an unknown image."""
        return self.source_of(self.image(release.image))

    def source_of(self, image: Image) -> Place:
        """Where an image's releases are."""
        place = self.places.source(image)
        if self._memory is None:
            return place
        name = place.registry.name
        if name not in self._memory:
            self._memory.setdefault(name, remembered(place.registry, whole=self._remembers_lists))
        return Place(self._memory[name], place.repository)

    def subject(self, release: Release) -> Descriptor:
        """The descriptor of the release's top manifest, as the source registry has it now. Raises NotFound."""
        place = self.source(release)
        return place.registry.resolve(place.repository, release.digest)

    def verifier(self) -> KeySet:
        """The keys that are believed. Raises InputError."""
        return self.keys.trusted()

    def now(self) -> datetime:
        """The time that policies are applied at. Raises LocalError where this machine's clock is known to be wrong."""
        if self.shared is not None and self.shared.joined:
            self.shared.membership.check()
        return datetime.now(UTC)
