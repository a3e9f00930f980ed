"""The whole way with real parts: wheels from the package index, a real runtime that starts the image."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildResult, BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.docker_daemon import Docker, own_docker

REQUIREMENTS = {"trend": ("numpy>=2,<3", "packaging", "pip"), "search": ("numpy>=2,<3", "jinja2")}
APPLICATIONS = {
    "trend": """\
import json
import numpy as np
from packaging.version import Version
slope = np.polyfit(np.arange(5), [1, 3, 5, 7, 9], 1)[0]
print(json.dumps({"answer": round(float(slope), 6), "modern": Version(np.__version__) >= Version("2")}))
""",
    "search": """\
import json
import jinja2
import numpy as np
print(json.dumps({"answer": float(jinja2.Template("{{ x }}").render(x=np.linalg.norm([3, 4])))}))
""",
}
ANSWERS = {"trend": {"answer": 2.0, "modern": True}, "search": {"answer": 5.0}}


@pytest.fixture(scope="module")
def docker(peer: Callable[[str], str]) -> Iterator[Docker]:
    with own_docker(peer) as client:
        yield client


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedServer(tmp_path_factory.mktemp("registry")) as server:
        yield server.address


@pytest.fixture(scope="module")
def images(registry: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, BuildResult]]:
    """Two images with numpy; one has pip too, so that it can be asked about itself."""
    builder = LayersBuilder(tmp_path_factory.mktemp("state"))
    made = {}
    for name, requirements in REQUIREMENTS.items():
        application = tmp_path_factory.mktemp(name)
        (application / "app.py").write_text(APPLICATIONS[name])
        place = Place(DistributionRegistry(registry), f"demo/{name}")
        spec = BuildSpec(name=name, requirements=requirements, application=application, version="v1.0.0")
        made[name] = (f"{registry}/demo/{name}:v1.0.0", builder.build(spec, place))
    return made


@pytest.mark.peer("dockerd", "docker")
def test_docker_pulls_and_runs_the_images(docker: Docker, images: dict[str, tuple[str, BuildResult]]) -> None:
    for name, (reference, result) in images.items():
        docker("pull", "--quiet", reference)
        assert json.loads(docker("run", "--rm", "--network", "host", "--read-only", reference)) == ANSWERS[name]
        digests = json.loads(docker("image", "inspect", reference))[0]["RepoDigests"]
        assert digests == [f"{reference.rpartition(':')[0]}@{result.descriptor.digest}"]


@pytest.mark.peer("dockerd", "docker")
def test_pip_inside_the_image_agrees_with_the_lock(docker: Docker, images: dict[str, tuple[str, BuildResult]]) -> None:
    reference, result = images["trend"]
    run = ("run", "--rm", "--network", "host", "--entrypoint", "python3", reference, "-m", "pip")
    listed = {item["name"].lower(): item["version"] for item in json.loads(docker(*run, "list", "--format", "json"))}
    (lock,) = result.lock.values()
    assert listed == {wheel.name: wheel.version for wheel in lock}
    assert "No broken requirements found" in docker(*run, "check")
    assert json.loads(docker("image", "inspect", reference))[0]["Config"]["User"] == "65532:65532"


@pytest.mark.peer("dockerd", "docker")
def test_byte_code_of_real_wheels_is_there(docker: Docker, images: dict[str, tuple[str, BuildResult]]) -> None:
    code = (
        "import numpy, os, sys;"
        "specs = [getattr(m, '__spec__', None) for m in list(sys.modules.values())];"
        "found = [spec.cached for spec in specs if spec and spec.cached and spec.origin.endswith('.py')];"
        "print(len(found), sum(map(os.path.exists, found)))"
    )
    run = ("run", "--rm", "--network", "host", "--entrypoint", "python3", images["trend"][0], "-c", code)
    modules, compiled = map(int, docker(*run).split())
    assert modules == compiled > 100


def test_both_images_share_the_layers_of_base_and_numpy(images: dict[str, tuple[str, BuildResult]]) -> None:
    first, second = (result for _, result in images.values())
    shared = {row.digest for row in first.layers} & {row.digest for row in second.layers}
    rows = {row.contents.split(" ")[0]: row for row in second.layers}
    assert {rows[name].digest for name in ("system", "python", "numpy")} <= shared
    assert {rows[name].how for name in ("system", "python", "numpy")} == {"mounted"}


@pytest.mark.peer("skopeo")
def test_skopeo_reads_the_image_whole(
    images: dict[str, tuple[str, BuildResult]], tmp_path: Path, peer: Callable[[str], str]
) -> None:
    reference, result = images["search"]
    copy = [
        peer("skopeo"),
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        f"docker://{reference}",
        f"oci:{tmp_path}/out:v1",
    ]
    subprocess.run(copy, check=True, capture_output=True)
    assert (tmp_path / "out" / "blobs" / "sha256" / result.descriptor.digest.hex).exists()


@pytest.mark.peer("crane")
def test_crane_validates_every_layer(images: dict[str, tuple[str, BuildResult]], peer: Callable[[str], str]) -> None:
    for reference, _ in images.values():
        done = subprocess.run(
            [peer("crane"), "validate", "--remote", reference], check=True, capture_output=True, text=True
        )
        assert "PASS" in done.stdout + done.stderr
