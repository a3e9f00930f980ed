"""What a source of usage says: one value for each place that an image is used in, and the answer that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec

from registry_pipelines.errors import DigestInvalid, ReferenceInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import Reference


class Use(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image that is used. image: as it is written there, with its registry; empty where a runtime knows its id
    alone. digest: what runs, where the source says it (also in ``image``); empty where it names a tag alone. config:
    the image's id, the digest of its config, where a runtime says that and no manifest's. where: for people. since:
    when that began; None where the source does not say. running: False for what may be started at any time, as a model
    or a task definition. weak: a hint, such as a pull, that nobody may stand behind."""

    source: str = ""
    image: str = ""
    where: str = ""
    digest: str = ""
    config: str = ""
    since: datetime | None = None
    running: bool = True
    weak: bool = False

    def reference(self) -> Reference | None:
        """The image's reference with the digest that runs; None for what is none of the distribution protocol."""
        try:
            named = Reference.parse(self.image)
            digest = Digest.parse(self.digest) if self.digest else named.digest
        except (ReferenceInvalid, DigestInvalid):
            return None
        return Reference(named.registry, named.repository, named.tag, digest)

    @property
    def image_id(self) -> Digest | None:
        """``config`` as a digest; None for none."""
        try:
            return Digest.parse(self.config) if self.config else None
        except DigestInvalid:
            return None

    @property
    def sentence(self) -> str:
        """``in use: ecs cluster prod, service web``."""
        verb = "in use" if self.running else "may start"
        verb = "perhaps in use" if self.weak else verb
        return f"{verb}: {self.source}: {self.where}"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one source said. at: when, with time zone; the age of everything in it. problem: why it did not answer, or
    not to all of it, in one sentence; what it said all the same counts."""

    source: str
    at: datetime
    uses: tuple[Use, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


class UsageSource(Protocol):
    """A place that says what runs. name: of the configuration."""

    name: str
    notes: Sequence[str]

    def uses(self) -> Iterator[Use]:
        """Everything in use there. Raises RegistryPipelinesError when anything of it cannot be read: a list that is not
        whole is none."""
        ...


@runtime_checkable
class Dated(Protocol):
    """Rare ability: an answer that was given before it is read. All others are given when they are asked."""

    @property
    def answered(self) -> datetime:
        """When. Known once :meth:`UsageSource.uses` has begun."""
        ...


def split_image_id(text: str) -> tuple[str, str, str]:
    """What a container's status says of its image: (reference, digest of a manifest, id of the image), each empty where
    it is not told.

    Forms: ``docker-pullable://repository@digest``, ``repository@digest`` (containerd, CRI-O), ``docker://id``,
    ``sha256:id`` and an id of 64 digits alone (containerd for an image that came without its digest, CRI-O). Source:
    Kubernetes' ContainerStatus.imageID, as dockershim, containerd's and CRI-O's CRI fill it.
    """
    _, scheme, rest = text.rpartition("://")
    written = rest if scheme else text
    name, at, digest = written.rpartition("@")
    if at:
        return written, digest, ""
    bare = name or digest
    algorithm, colon, digits = bare.rpartition(":")
    if (algorithm in ("", "sha256")) and len(digits) == 64 and not digits.strip("0123456789abcdef"):
        return "", "", f"sha256:{digits}"
    return (bare, "", "") if colon or "/" in bare else ("", "", "")
