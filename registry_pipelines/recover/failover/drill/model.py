"""What a fail-over drill tries, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import DOCKER_HUB
from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.kinds import Kind, Scheme
from registry_pipelines.registry.protocol import Place

Form = Literal["hosts-toml", "docker"]
"""Of a client's file with the order of registries."""


class Outcome(StrEnum):
    """How one pull ended."""

    PULLED = "pulled"
    """Nothing was down."""
    FAILED_OVER = "failed over"
    """The client went to the next registry by itself."""
    WAITED = "waited"
    """Nothing came until the limit."""
    FAILED = "failed"
    """The client gave up with an error."""
    NOT_TRIED = "not tried"
    """The client did not start, or the machine could not be made to do this."""


class Waited(Exception):
    """A pull was ended at its limit."""


class PullFailed(Exception):
    """A pull ended with an error; the message is the client's."""


class Running(Protocol):
    """A client of the drill's own, started."""

    def order(self, files: Mapping[str, bytes]) -> None:
        """From now on ask registries as these files say, without a restart. files: of the client's form."""
        ...

    def pull(self, reference: str, limit_s: float) -> None:
        """Raises Waited, PullFailed."""
        ...


class Client(Protocol):
    """A client that is on this machine. version: as the program says it."""

    @property
    def kind(self) -> Kind:
        """How it pulls."""
        ...

    @property
    def version(self) -> str:
        """Of the program that asks registries."""
        ...

    @property
    def form(self) -> Form:
        """Of its file."""
        ...

    @contextmanager
    def started(self, folder: Path, sockets: Path) -> Iterator[Running]:
        """Start one with all that it has below these folders, end it afterwards. sockets: a short path. Raises
        LocalError."""
        ...


class Files(Protocol):
    """Makes a client's files, as nodes have them."""

    def __call__(self, form: Form, urls: Mapping[str, str], ca: bytes) -> Mapping[str, bytes]:
        """Content by path. urls: name of a registry to where its stand-in is, in the order in which they are to be
        asked. ca: PEM, whom to trust; empty without TLS."""
        ...


class Image(NamedTuple):
    """What is pulled: a digest that all of the places have."""

    repository: str
    host: str
    """In the name by which containerd is asked for it; of Docker it is Docker Hub's, which alone has mirrors there."""
    digest: Digest
    places: Mapping[str, Place]
    """By the registry's name, in order: the first is the one that is down."""
    files: Files

    def reference(self, form: Form) -> str:
        """As a workload names it."""
        return f"{self.host if form == 'hosts-toml' else DOCKER_HUB}/{self.repository}@{self.digest}"


class Case(NamedTuple):
    """One thing to try. fault None: nothing is down, the baseline. alone: the one registry in the file; empty for
    all."""

    client: Client
    scheme: Scheme
    fault: Fault | None
    alone: str = ""

    @property
    def text(self) -> str:
        """For people."""
        return case_text(self.client.kind, self.client.version, self.scheme, self.fault, self.alone)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one case."""

    client: Kind
    version: str
    scheme: Scheme
    fault: Fault | None
    alone: str = ""
    """See :class:`Case`."""
    outcome: Outcome
    seconds: float
    """Until it was pulled, failed, or was ended at the limit."""
    limit_s: float
    said: str = ""
    """The client's last words where it failed; why it was not tried."""
    remedied_s: float | None = None
    """Seconds that the same pull took, the fault going on, after the first registry was taken out of the order; None
    where that was not needed, or did not help."""
    remedy_said: str = ""
    """Why it did not help."""

    @property
    def named(self) -> str:
        """The client, for people."""
        return f"{self.client} {self.version}"

    @property
    def text(self) -> str:
        """The case, for people."""
        return case_text(self.client, self.version, self.scheme, self.fault, self.alone)


def case_text(client: Kind, version: str, scheme: Scheme, fault: Fault | None, alone: str) -> str:
    """``containerd 1.6.20 over https, registry frozen``."""
    nothing_down = f"{alone} alone" if alone else "nothing down"
    return f"{client} {version} over {scheme}, {f'registry {fault}' if fault else nothing_down}"


__all__ = [
    "Attempt",
    "Case",
    "Client",
    "Files",
    "Form",
    "Image",
    "Outcome",
    "PullFailed",
    "Running",
    "Waited",
]
