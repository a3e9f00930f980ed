"""Lazy bytes come from where this node's containerd would pull: its ``hosts.toml`` files, read as it reads them."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain.node_places import NodePlaces
from registry_pipelines.chain.places import Places
from registry_pipelines.errors import ConfigInvalid, NotFound, RegistryError, TlsFailed, Unavailable
from registry_pipelines.node.hosts_files import Endpoint, find_hosts, parse_hosts
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.in_turn import InTurn, Turn
from registry_pipelines.registry.protocol import Place
from tests.doubles.certificates import make_certificates
from tests.doubles.containerd import containerd
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.stream.releases import layer, push

FILE = Path("/etc/containerd/certs.d/registry.example/hosts.toml")
UPSTREAM = "127.0.0.1:9"
"""Where nobody listens."""


def test_a_file_is_read_as_containerd_reads_it() -> None:
    text = """
server = "https://registry.example"
[host."https://mirror.example:5000/v2/hub"]
  capabilities = ["pull"]
  override_path = true
  ca = ["ca.pem", "/etc/ssl/other.pem"]
  [host."https://mirror.example:5000/v2/hub".header]
    x-team = ["ml", "ops"]
[host."push.example"]
  capabilities = ["push"]
[host."http://[::1]:5000"]
  skip_verify = true
  client = [["a.pem", "a.key"], ["b.pem", ""]]
"""
    hosts = parse_hosts(text.encode(), FILE)
    beside = FILE.parent
    assert hosts.endpoints == (
        Endpoint(
            "mirror.example:5000",
            prefix="hub",
            resolves=False,
            ca_files=(beside / "ca.pem", Path("/etc/ssl/other.pem")),
            headers={"x-team": "ml, ops"},
        ),
        Endpoint(
            "[::1]:5000",
            plain=True,
            skip_verify=True,
            client=((beside / "a.pem", beside / "a.key"), (beside / "b.pem", beside / "b.pem")),
        ),
        Endpoint("registry.example"),
    )
    assert hosts.server and not hosts.left_out
    nothing = parse_hosts(b"", FILE)
    assert nothing.endpoints == () and not nothing.server


def test_what_cannot_be_followed_is_said() -> None:
    """A path before /v2: no other program of ours asks below one."""
    hosts = parse_hosts(
        b'[host."https://a.example/proxy"]\n[host."https://b.example/x/y"]\noverride_path = true\n', FILE
    )
    assert hosts.endpoints == () and len(hosts.left_out) == 2
    assert all("is not followed here" in line and str(FILE) in line for line in hosts.left_out)


def test_every_problem_of_a_file_is_said_at_once_and_no_header_is_repeated() -> None:
    text = """
server = 3
[host."ftp://a.example"]
[host."https://b.example"]
  capabilities = "pull"
  skip_verify = "yes"
  ca = 5
  client = [["a", "b", "c"]]
  [host."https://b.example".header]
    authorization = ["Bearer geheim\\u0007"]
[host."https://c.example/v2/UPPER"]
  override_path = true
"""
    with pytest.raises(ConfigInvalid) as caught:
        parse_hosts(text.encode(), FILE)
    said = str(caught.value)
    for word in ("server", "ftp://", "capabilities", "skip_verify", ".ca:", "client", "authorization", "UPPER"):
        assert word in said, word
    assert "geheim" not in said
    for url in ("https://u:geheim@a.example", "u:geheim@a.example/x", "https://a.example?geheim", "https://u:geheim@"):
        for file in (f"server = '{url}'", f"[host.'{url}']"):
            with pytest.raises(ConfigInvalid) as caught:
                parse_hosts(file.encode(), FILE)
            assert "geheim" not in str(caught.value)
    for raw in (b"\xff", b"[[host", b"host = 3", b"[" * 100_000):
        with pytest.raises(ConfigInvalid):
            parse_hosts(raw, FILE)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_file_or_refused(raw: bytes) -> None:
    _read_or_refused(raw)


_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["pull", "a.pem", "", "\0", "https://a.example/v2/x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["header", "x", ""]), inner, max_size=2)
    ),
    max_leaves=6,
)
_SETTINGS = ("capabilities", "ca", "client", "skip_verify", "header", "override_path", "server")


@given(
    st.dictionaries(
        st.sampled_from(["https://a.example", "a:0", "x y", "http://[::1"]),
        st.dictionaries(st.sampled_from(_SETTINGS), _VALUE),
    ),
    _VALUE,
)
def test_any_settings_are_followed_or_refused(hosts: dict[str, dict[str, object]], server: object) -> None:
    lines = [f"server = {_toml(server)}"] if server is not None else []
    for url, settings in hosts.items():
        lines.append(f"[host.{_toml(url)}]")
        lines += [f"{name} = {_toml(value)}" for name, value in settings.items() if value is not None]
    _read_or_refused("\n".join(lines).encode())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\0", "\\u0000") + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value if each is not None) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items() if each is not None) + "}"
    return str(value)


def _read_or_refused(raw: bytes) -> None:
    try:
        hosts = parse_hosts(raw, FILE)
    except ConfigInvalid as error:
        assert str(FILE) in str(error)
        return
    for each in hosts.endpoints:
        assert each.host and all(path.is_absolute() for path in each.ca_files)


def test_the_folder_of_a_host_is_found_as_containerd_finds_it(tmp_path: Path) -> None:
    roots = (tmp_path / "none", tmp_path)
    assert find_hosts("a.example:5000", roots) is None

    def say(folder: str, host: str) -> None:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hosts.toml").write_text(f'server = "https://{host}"')

    for folder, host in (
        ("_default", "default.example"),
        ("a.example:5000", "named.example"),
        ("a.example_5000_", "port.example"),
    ):
        say(folder, host)
        hosts = find_hosts("a.example:5000", roots)
        assert hosts is not None and hosts.endpoints[0].host == host
    (tmp_path / "b.example").mkdir()  # there, and says nothing: _default is not asked then
    assert find_hosts("b.example", roots) is None
    (tmp_path / "b.example/ca.crt").write_text("")
    found = find_hosts("b.example", roots)
    assert found is not None and found.endpoints[0].ca_files == (tmp_path / "b.example/ca.crt",)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    with ExitStack() as stack:

        def start(name: str, **settings: object) -> EmbeddedServer:
            server = EmbeddedServer(tmp_path / name, **settings)  # type: ignore[arg-type]
            server.start()
            stack.callback(server.stop)
            return server

        yield start


def hosts_file(folder: Path, text: str, host: str = UPSTREAM) -> Path:
    name, _, port = host.rpartition(":")
    (folder / f"{name}_{port}_").mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{port}_" / "hosts.toml"
    path.write_text(text)
    return path


def test_content_comes_from_the_mirror_and_what_it_lacks_from_the_next(
    serving: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    mirror, upstream = serving("mirror"), serving("upstream")
    here = Place(DistributionRegistry(mirror.address), "hub/team/app")
    there = Place(DistributionRegistry(upstream.address), "team/app")
    first = push(here, layer("one"), tag="v1")
    second = push(there, layer("two"), tag="v2")
    push(there, layer("other"), tag="v1")
    said: list[str] = []
    with FaultRegistry(mirror.address) as faults, FaultRegistry(upstream.address) as last:
        path = hosts_file(
            tmp_path / "certs.d",
            f'[host."http://{faults.address}/v2/hub"]\noverride_path = true\n[host."http://{faults.address}/proxy"]\n',
            last.address,
        )
        node = NodePlaces(Places(None), [tmp_path / "certs.d"], said.append)
        place = node.place(f"{last.address}/team/app:v1")
        assert str(place) == f"{last.address}/team/app" and node.place(f"{last.address}/team/app") == place
        assert place.registry.resolve("team/app", "v1").digest == first.digest and not last.seen
        assert all("ns=" in each.target and each.target.startswith("/v2/hub/team/app/") for each in faults.seen)
        assert place.registry.resolve("team/app", "v2").digest == second.digest
        blob = push_blob(there, b"content", media_type="text/plain")
        assert read_blob(place, blob, limit=100) == b"content"
        assert place.registry.blob_size("team/app", blob.digest) == 7
        faults.play("GET", r".*", Status(503))
        faults.play("HEAD", r".*", Status(503))
        assert read_blob(place, blob, limit=100) == b"content"
        asked = len(faults.seen)
        assert read_blob(place, blob, limit=100) == b"content" and len(faults.seen) == asked
        assert len(said) == 1 and "/proxy" in said[0]
        path.write_text(
            path.read_text().replace("override_path = true", 'override_path = true\ncapabilities = ["pull"]')
        )
        again = node.place(f"{last.address}/team/app")
        assert again != place  # the file says something else
        assert again.registry.resolve("team/app", "v1").digest != first.digest
        path.write_text("[host")
        with pytest.raises(ConfigInvalid):
            node.place(f"{last.address}/team/app")


def test_certificates_and_headers_go_to_the_host_that_they_are_for(
    serving: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path / "tls")
    mirror = serving("mirror", certificate=certificates.certificate, key=certificates.key, users={"node": "geheim"})
    own = DistributionRegistry(mirror.address, username="node", password="geheim", ca_file=certificates.ca)
    made = push(Place(own, "team/app"), layer("one"), tag="v1")
    token = base64.b64encode(b"node:geheim").decode()
    header = f'[host."https://{mirror.address}".header]\nauthorization = "Basic {token}"\n'
    host = f'[host."https://{mirror.address}"]\n{{0}}\n{header}'

    def resolved(setting: str, **more: str) -> object:
        hosts_file(tmp_path / "certs.d", f'server = "http://{UPSTREAM}"\n' + host.format(setting))
        node = NodePlaces(Places(None), [tmp_path / "certs.d"], print)
        registry = node.place(f"{UPSTREAM}/team/app").registry
        assert isinstance(registry, InTurn)
        return registry._turns[0].registry.resolve("team/app", "v1").digest

    assert resolved(f'ca = "{certificates.ca}"') == made.digest
    assert resolved("skip_verify = true") == made.digest
    assert (
        resolved(f'ca = "{certificates.ca}"\nclient = [["{certificates.certificate}", "{certificates.key}"]]')
        == made.digest
    )
    with pytest.raises(TlsFailed):
        resolved("")
    with pytest.raises(ConfigInvalid, match=r"none\.pem"):
        resolved('ca = "none.pem"')


class Silent(DistributionRegistry):
    """One that cannot be reached."""

    asked = 0

    def resolve(self, repository: str, reference: str) -> object:  # type: ignore[override]
        self.asked += 1
        raise Unavailable("it cannot be reached", where=self.name)


def test_one_that_is_down_is_passed_over_for_a_time_and_nothing_is_written() -> None:
    now = [0.0]
    silent, other = Silent("a.example"), Silent("b.example")
    both = InTurn("x.example", [Turn(silent), Turn(other)], clock=lambda: now[0])
    for times in (1, 2):  # where all are down all are asked
        with pytest.raises(Unavailable):
            both.resolve("app", "v1")
        assert (silent.asked, other.asked) == (times, times)
    now[0] = 11.0
    with pytest.raises(RegistryError):
        both.put_manifest("app", None)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        InTurn("x.example", [Turn(silent, resolves=False)]).resolve("app", "v1")


class Empty(DistributionRegistry):
    """A mirror that has nothing, and lists nothing."""

    def resolve(self, repository: str, reference: str) -> object:  # type: ignore[override]
        raise NotFound("there is none", where=self.name)

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        return None

    def referrers(self, *_: object, **__: object) -> list[Descriptor]:
        return []


def test_while_the_registry_itself_is_down_no_mirror_is_believed_that_there_is_nothing() -> None:
    """What is signed about an image would be taken for gone, and that is kept."""
    mirror, last = Empty("a.example"), Silent("x.example")
    now = [0.0]
    both = InTurn("x.example", [Turn(mirror), Turn(last)], clock=lambda: now[0])
    for _ in range(2):  # found down, and passed over
        with pytest.raises(Unavailable):
            both.resolve("app", "v1")
    assert last.asked == 1
    with pytest.raises(Unavailable):
        both.referrers("app", Digest.of(b"image"))
    with pytest.raises(Unavailable):
        both.blob_size("app", Digest.of(b"layer"))
    now[0] = 11.0
    with pytest.raises(Unavailable):
        both.resolve("app", "v1")
    assert last.asked == 2
    other = InTurn("x.example", [Turn(DistributionRegistry(UPSTREAM)), Turn(mirror)])  # a mirror is down, not itself
    assert other.referrers("app", Digest.of(b"image")) == []


@pytest.mark.peer("containerd", "ctr")
def test_containerd_asks_the_same_of_the_same_file(
    serving: Callable[..., EmbeddedServer], peer: Callable[[str], str], tmp_path: Path
) -> None:
    mirror = serving("mirror")
    made = push(Place(DistributionRegistry(mirror.address), "hub/team/app"), layer("one"), tag="v1")
    with FaultRegistry(mirror.address) as faults:
        hosts_file(tmp_path / "certs.d", f'[host."http://{faults.address}/v2/hub"]\noverride_path = true\n')
        with (
            tempfile.TemporaryDirectory(prefix="node-") as short,
            containerd(peer("containerd"), peer("ctr"), Path(short)) as ctr,
        ):
            ctr("content", "fetch", "--hosts-dir", str(tmp_path / "certs.d"), f"{UPSTREAM}/team/app:v1")
        theirs = {each.target for each in faults.seen}
        faults.seen.clear()
        place = NodePlaces(Places(None), [tmp_path / "certs.d"], print).place(f"{UPSTREAM}/team/app")
        assert place.registry.resolve("team/app", "v1").digest == made.digest
        content = place.registry.get_manifest("team/app", made.digest).content()
        for each in (content.config, *content.layers):  # type: ignore[union-attr]
            read_blob(place, each, limit=1 << 20)
        assert {each.target for each in faults.seen} == theirs
