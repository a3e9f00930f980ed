"""Real programs read the files of an order whose first registry is gone, and pull from the second: below a prefix,
over TLS with an authority that only the files name, in a network with nothing else in it."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry_pipelines.mirror.clusters.forms import write_in_order
from registry_pipelines.mirror.clusters.model import Endpoint, Placed, Route
from registry_pipelines.mirror.model import ClusterForm
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.doubles.certificates import make_certificates
from tests.doubles.containerd import containerd
from tests.doubles.cut_off import CutOff, cut_off
from tests.stream.layers import pack
from tests.stream.lazy.stacks import entry
from tests.stream.releases import Layer, program, push

NAME = "us.example.com/team/app"
STOPPED = Endpoint("127.0.0.1:9", plain_http=True)
VERSIONS = pytest.mark.parametrize(
    ("programs", "version"),
    [
        pytest.param(("containerd", "ctr"), 2, id="the system's"),
        pytest.param(("../docker28/containerd", "../docker28/ctr"), 3, id="2.1", marks=pytest.mark.long),
    ],
)


@pytest.fixture(scope="module")
def network() -> Iterator[CutOff]:
    with cut_off() as network:
        yield network


@contextmanager
def second(network: CutOff, folder: Path) -> Iterator[tuple[Endpoint, Digest]]:
    """The registry that stands in."""
    tar = pack([entry("hello", content=program(b"hello\n"), mode=0o755)])
    place = Place(LayoutRegistry(folder / "root"), "replica/team/app")
    made = push(place, Layer(gzip.compress(tar, 1, mtime=0), tar), tag="v1", config={"Cmd": ["/hello"]})
    tls = make_certificates(folder / "tls")
    with network.registry(folder / "root", "--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)) as host:
        yield Endpoint(host, certificates=tls.ca.read_bytes(), ca_file="ca-eu.crt"), made.digest


def files(folder: Path, form: ClusterForm, endpoint: Endpoint) -> Path:
    first = Placed(STOPPED, [Route("us.example.com", "team/app", "team/app")], dial_s=2)
    other = Placed(endpoint, [Route("us.example.com", "team/app", "replica/team/app")])
    for path, raw in write_in_order(form, "prod", [first, other]).files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
    return folder


@pytest.mark.peer("containerd", "ctr")
@VERSIONS
def test_containerd_goes_on_to_the_second_registry(
    network: CutOff, peer: Callable[[str], str], programs: tuple[str, str], version: int, tmp_path: Path
) -> None:
    found = [network.wrapped(peer(each)) for each in programs]
    with (
        second(network, tmp_path) as (endpoint, digest),
        tempfile.TemporaryDirectory(prefix="ctrd-") as folder,
        containerd(found[0], found[1], Path(folder), version=version) as ctr,
    ):
        hosts = files(tmp_path / "hosts", "hosts-toml", endpoint)
        for reference in (f"{NAME}:v1", f"{NAME}@{digest}"):
            ctr("images", "pull", "--hosts-dir", str(hosts), reference)
        assert ctr("run", "--rm", "--net-host", f"{NAME}:v1", "one") == "hello\n"


@pytest.mark.peer("skopeo")
def test_skopeo_goes_on_to_the_second_registry(network: CutOff, peer: Callable[[str], str], tmp_path: Path) -> None:
    with second(network, tmp_path) as (endpoint, digest):
        made = files(tmp_path / "conf", "registries-conf", endpoint)
        [conf] = (made / "registries.conf.d").iterdir()
        [trusted] = (made / "certs.d").iterdir()
        assert trusted.name == endpoint.host
        done = network.run(
            *(peer("skopeo"), "--insecure-policy", "--registries-conf", str(conf), "copy"),
            *("--src-cert-dir", str(trusted), f"docker://{NAME}@{digest}", f"dir:{tmp_path}/out"),
        )
        assert done.returncode == 0, done.stderr
        assert Digest.of((tmp_path / "out/manifest.json").read_bytes()) == digest
