"""What a source of usage says: one value for each place that an image is used in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from registry_pipelines.errors import DigestInvalid, ReferenceInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import Reference


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is used. image: as it is written there, with its registry. digest: what runs, where the source says
    it (also in ``image``); empty where it names a tag alone. where: for people. since: when that began; None where the
    source does not say. running: False for what may be started at any time, as a model or a task definition. weak: a
    hint, such as a pull, that nobody may stand behind."""

    source: str
    image: str
    where: str
    digest: str = ""
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
    def sentence(self) -> str:
        """``in use: ecs cluster prod, service web``."""
        verb = "in use" if self.running else "may start"
        verb = "perhaps in use" if self.weak else verb
        return f"{verb}: {self.source}: {self.where}"


class UsageSource(Protocol):
    """A place that says what runs. name: of the configuration."""

    name: str
    notes: Sequence[str]

    def uses(self) -> Iterator[Use]:
        """Everything in use there. Raises RegistryError when anything of it cannot be read: a list that is not whole is
        none."""
        ...
