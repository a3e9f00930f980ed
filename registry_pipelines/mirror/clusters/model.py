"""What the files for clusters are made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from registry_pipelines.mirror.model import host_path

CA_FILE = "ca.crt"
"""Certificates of who signed the private registry's own, as every form names the file."""


@dataclass(frozen=True)
class Endpoint:
    """The private registry as nodes reach it."""

    host: str
    """``host`` or ``host:port``."""
    plain_http: bool = False
    certificates: bytes = b""
    """PEM: whom to trust beside the system's; empty for nobody."""
    needs_login: bool = False
    """Whether reading takes an account."""
    ca_file: str = CA_FILE
    """What the file with ``certificates`` is called, beside those of other registries."""

    @property
    def url(self) -> str:
        """With its scheme, without a path."""
        return f"{'http' if self.plain_http else 'https'}://{self.host}"


@dataclass(frozen=True, order=True)
class Route:
    """One image: the name that workloads have for it, and the repository in the private registry that holds it."""

    host: str
    """As workloads write it: ``docker.io``, ``quay.io``, ``registry.example.com:5000``."""
    repository: str
    """As it is called there, of Docker Hub with ``library/``."""
    path: str
    """Of the repository in the private registry."""

    @property
    def name(self) -> str:
        """``host/repository``, as workloads write it."""
        return f"{self.host}/{self.repository}"

    @property
    def prefix(self) -> str | None:
        """What stands before the repository's own name in the private registry, without the slash; empty for nothing.
        None where the name itself is another."""
        if self.path == self.repository:
            return ""
        return self.path.removesuffix(f"/{self.repository}") if self.path.endswith(f"/{self.repository}") else None

    @property
    def keeps_host(self) -> bool:
        """Whether the host stands in the path, so that nobody else's image can have the same one."""
        own = f"{host_path(self.host)}/{self.repository}"
        return self.path == own or self.path.endswith(f"/{own}")


@dataclass(frozen=True)
class Placed:
    """A registry that has images, and where each of them is in it. Of several that have the same images nodes ask the
    first one first."""

    endpoint: Endpoint
    routes: Sequence[Route]
    ours: Collection[str] = ()
    """Hosts in ``routes`` all of whose images are ours: whose image a path is needs no host in it then."""
    dial_s: int = 0
    """Seconds that a node tries to connect before it asks the next one, where a form can say it; 0 for what the program
    takes by itself."""

    @property
    def hosts(self) -> dict[str, list[Route]]:
        """Routes of each host that workloads name, both sorted."""
        return by_host(self.routes)


@dataclass(frozen=True)
class Written:
    """What a form became."""

    files: Mapping[str, bytes]
    """Content by path below a folder."""
    notes: Sequence[str] = ()
    """What to do with it, and what it does not do; a sentence each."""
    wrong: Sequence[str] = field(default=())
    """What the form cannot say; nothing is to be written then."""


def by_host(routes: Iterable[Route]) -> dict[str, list[Route]]:
    """Routes of each host, both sorted."""
    found: dict[str, list[Route]] = defaultdict(list)
    for route in sorted(set(routes)):
        found[route.host].append(route)
    return dict(found)


def renamed(endpoint: Endpoint, route: Route) -> str:
    """Why a form that only knows a beginning cannot find an image."""
    return f"{route.name} is {route.path} at {endpoint.host}: this form can only put something before a name"


def shared_names(placed: Sequence[Placed]) -> list[str]:
    """What is to be known where a path without its host answers for several hosts: a note for each such host."""
    loose = by_host(
        route for each in placed for route in each.routes if not route.keeps_host and route.host not in each.ours
    )
    return [
        f"{host}: without `keep_host` the private registry does not know whose image a path is, so a node that asks "
        f"for an image of {host} gets what any upstream brought under that path"
        for host in loose
    ]


def where_to_login(endpoint: Endpoint, place: str) -> list[str]:
    """The note about an account, where the registry wants one: no file holds it."""
    if not endpoint.needs_login:
        return []
    return [f"No account is in these files; {endpoint.host} wants one: {place}"]


def pods_accounts(placed: Sequence[Placed]) -> list[str]:
    """The note about accounts that come with a pull, where containerd asks several registries and one wants some (run
    with 1.6.20 and 2.1.9)."""
    wanting = [each.endpoint.host for each in placed if each.endpoint.needs_login]
    if len(placed) == 1 or not wanting:
        return []
    return [
        "An account that the kubelet brings with a pull (imagePullSecrets, a credential provider) is for each registry "
        f"of the file, and the node's own accounts are not used then: {' and '.join(wanting)} must take it, or pods "
        "bring none"
    ]


def names_of(placed: Sequence[Placed]) -> list[tuple[str, str]]:
    """Host and repository of every image that one of the registries has, as workloads write them, sorted."""
    return sorted({(route.host, route.repository) for each in placed for route in each.routes})


def in_order(placed: Sequence[Placed], host: str, repository: str) -> list[tuple[Endpoint, str]]:
    """The registries that have an image, in the order in which nodes ask them, each with its repository there."""
    return [
        (each.endpoint, route.path)
        for each in placed
        for route in each.hosts.get(host, ())
        if route.repository == repository
    ]


def ca_files(placed: Sequence[Placed]) -> dict[str, bytes]:
    """Whom to trust, by file name."""
    return {each.endpoint.ca_file: each.endpoint.certificates for each in placed if each.endpoint.certificates}
