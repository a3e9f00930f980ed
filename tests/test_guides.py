"""Every command of a guide runs, as it is copied: block by block, in a fresh folder, with the installed wheel.

Only what a reader writes anew is replaced: hosts, and ports that may be in use. ``# exit 3: ...`` behind a command says
how it ends; all others end with 0.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.registry import GarRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.anatomy.baked_images import safetensors
from tests.anatomy.textbook import push_bases, push_project
from tests.build.dockerfile.kit import kit
from tests.build.wheels import make_wheel
from tests.chain.fleet import push
from tests.conftest import PEERS
from tests.doubles.google import GoogleCloud
from tests.doubles.google.accounts import service_account_file
from tests.doubles.osv_export import OsvExport, pypi, small_set
from tests.patience import patient
from tests.ports import free_ports
from tests.scan.images import push_image

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
_EXIT = re.compile(r"^(?P<command>.*\S)\s+# exit (?P<code>\d+)\b.*$", re.MULTILINE)


def blocks(name: str) -> list[str]:
    """The commands of a guide, a text for each block."""
    return re.findall(r"```sh\n(.*?)```", (GUIDES / f"{name}.md").read_text(), re.DOTALL)


class Reader:
    """Somebody who follows a guide in a folder of their own."""

    def __init__(self, folder: Path, program: Path, home: Path, replaced: Mapping[str, str], ui: int = 3000) -> None:
        """replaced: what the reader writes in place of a text. ui: port of the UI."""
        self.folder, self.replaced, self.ui = folder, replaced, ui
        self.program, self.home = program, home
        self.environment = {**os.environ, "HOME": str(home), "PATH": f"{program.parent}:{PEERS}:{os.environ['PATH']}"}
        for name in ("DOCKER_CONFIG", "DAGSTER_HOME", "REGISTRY_PIPELINES_CONFIG", "PYTHONPATH"):
            self.environment.pop(name, None)

    def follow(self, commands: list[str]) -> str:
        """Run blocks in one shell; all that is printed."""
        script = "\n".join(commands)
        for word, own in self.replaced.items():
            script = script.replace(word, own)
        script = _EXIT.sub(lambda found: f"{found['command']} && exit 99 || [ $? = {found['code']} ]", script)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=patient(300),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[dict[str, EmbeddedServer]]:
    """Two registries: ``old`` has three versions of two images, each with something attached; ``new`` has nothing."""
    with ExitStack() as stack:
        served = {name: stack.enter_context(EmbeddedServer(tmp_path / name)) for name in ("old", "new")}
        for repository in ("team/app", "team/tool"):
            place = Place(DistributionRegistry(served["old"].address), repository)
            for tag in ("v1.0.0", "v1.1.0", "v2.0.0"):
                image = push(place, tag)
                attach(place, subject=image, artifact_type="text/plain", content=tag.encode(), media_type="text/plain")
        yield served


@pytest.fixture
def reader(
    installed: Path, tmp_path: Path, registries: dict[str, EmbeddedServer], tmp_path_factory: pytest.TempPathFactory
) -> Reader:
    """Who comes from another tool, and has two registries."""
    (tmp_path / "fresh").mkdir()
    hosts = {f"{name}.example.com": server.address for name, server in registries.items()}
    return Reader(tmp_path / "fresh", installed, tmp_path_factory.mktemp("home"), hosts)


def tags(registries: dict[str, EmbeddedServer], repository: str) -> set[str]:
    return set(DistributionRegistry(registries["new"].address).tags(repository))


def trust(reader: Reader, registries: dict[str, EmbeddedServer]) -> None:
    """Elsewhere registries have certificates; skopeo asks for them on loopback, too."""
    plain = "".join(f'[[registry]]\nlocation = "{server.address}"\ninsecure = true\n' for server in registries.values())
    settings = Path(reader.environment["HOME"]) / ".config" / "containers" / "registries.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(plain)


@pytest.mark.peer("skopeo")
def test_from_skopeo(reader: Reader, registries: dict[str, EmbeddedServer], peer: Callable[[str], str]) -> None:
    peer("skopeo")
    trust(reader, registries)
    reader.follow(blocks("from-skopeo"))
    assert tags(registries, "mirror/team/app") == {"v1.0.0", "v1.1.0", "tested"}
    assert tags(registries, "mirror/app") == set()


@pytest.mark.peer("skopeo")
def test_start_faster(reader: Reader, registries: dict[str, EmbeddedServer], peer: Callable[[str], str]) -> None:
    peer("skopeo")
    trust(reader, registries)
    large = {"usr/lib/weights": random.Random(1).randbytes(11 << 20)}
    push_image(Place(DistributionRegistry(registries["old"].address), "team/model"), [large, {"a": "b"}], tag="v1.0.0")
    told = reader.follow(blocks("start-faster"))
    assert tags(registries, "team/model") == {"v1.0.0", "v1.0.0-soci-v2", "v1.0.0-estargz"}
    assert told.count("1 of 2 layers indexed") == 3 and told.count("2 of 2 layers converted") == 1
    assert "unchanged" in told


def test_weights_out_of_the_image(reader: Reader, registries: dict[str, EmbeddedServer]) -> None:
    """On 2 MiB; ``tests/weights/test_out_of_the_image.py`` has the bytes and times of 1 GiB."""
    place = Place(DistributionRegistry(registries["new"].address), "ml/server")
    model = {"models/llama/model.safetensors": safetensors(2 << 20), "models/llama/config.json": "{}"}
    push_image(place, [{"etc/x": "y"}, {**model, "app/main.py": "print()"}], tag="v1")
    reader.replaced = {"registry.example.com": registries["new"].address}
    told = reader.follow(blocks("weights-out-of-the-image"))
    assert "2 BF16" in told
    assert "no weights were found" in told and "mounted at /models/llama" in told
    pod = yaml.safe_load((reader.folder / "pod.yaml").read_text())
    digest = place.registry.resolve("models/llama", "1").digest
    assert f"models/llama@{digest}" in " ".join(pod["spec"]["initContainers"][0]["command"])
    assert f"models/llama@{digest}" in told, "the image volume names the same"


@pytest.fixture
def advised(installed: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Who has nothing yet but today's advisories, which are on this machine."""
    (tmp_path / "fresh").mkdir()
    with OsvExport(small_set()) as export:
        feed = f"--promote manual\nsed -i '$ a advisories: {{feed: {export.url}}}' registry-pipelines.yaml"
        yield Reader(tmp_path / "fresh", installed, tmp_path_factory.mktemp("home"), {"--promote manual": feed})


def test_dockerfile_project(advised: Reader) -> None:
    """Without an engine: the image was pushed by somebody, and the section that builds it is left out."""
    replaced = {**advised.replaced, " --dockerfile classifier --promote": " --promote"}
    reader = Reader(advised.folder, advised.program, advised.home, replaced)
    commands = blocks("dockerfile-project")
    reader.follow(commands[:2])
    held = LayoutRegistry(reader.folder / ".registry-pipelines" / "registries" / "local")
    push_project(Place(held, "team/classifier"), "v1.0.0")
    told = reader.follow(commands[2:])
    for word in (
        "conda scipy 1.17.1",
        "compilers",
        "conda-cache",
        "application-below",
        "overwritten by layer 4",
    ):
        assert word in told, word
    assert held.resolve("team/classifier", "prod") == held.resolve("team/classifier", "v1.0.0-rechunked")


@pytest.mark.long
@pytest.mark.peer("docker-buildx", "debootstrap")
def test_dockerfile_project_by_an_engine(
    advised: Reader, peer: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command, also those that want an engine, on bases that stand in for CUDA's; prints the guide's table.

    In the place of conda stands rattler, with a channel of two packages in an image that the step mounts.
    """
    with kit(peer, tmp_path / "kit") as running:
        tools = push_bases(running, peer, tmp_path / "bases")
        conda = (
            f"RUN --mount=type=bind,from={tools},target=/t "
            "PYTHONPATH=/t/tools python3 /t/tools/install.py file:///t/channel /opt/conda scipy"
        )
        replaced = {
            **advised.replaced,
            "docker.io/nvidia/cuda:13.0.1-devel-ubuntu24.04": f"{running.server}/cuda/devel:1",
            "docker.io/nvidia/cuda:13.0.1-runtime-ubuntu24.04": f"{running.server}/cuda/runtime:1",
            "RUN conda install -y scipy": conda,
            "registry-pipelines config check": "sed -i 's/context: .classifier./&, network: host/' *.yaml\n"
            "registry-pipelines config check",
        }
        reader = Reader(advised.folder, advised.program, advised.home, replaced)
        reader.environment |= running.environment
        reader.environment["PATH"] = f"{advised.program.parent}:{running.environment['PATH']}"
        commands = re.findall(r"```(?:sh|text)\n(.*?)```", (GUIDES / "dockerfile-project.md").read_text(), re.DOTALL)
        last = next(number for number, block in enumerate(commands) if "-runtime-" in block)
        reader.follow(commands[:last])
        versions = ["v1.0.0", change(reader, "v1.0.0", "v1.0.1")]
        reader.follow([commands[last].replace("s/version: v1.0.0", "s/version: v1.0.1"), *commands[last + 1 :]])
        reader.follow(["registry-pipelines ship classifier --until rechunk"])
        versions += ["v1.1.0", change(reader, "v1.1.0", "v1.1.1")]
    held = LayoutRegistry(reader.folder / ".registry-pipelines" / "registries" / "local")
    rows = {}
    for name, end in (("built", ""), ("rechunked", "-rechunked")):
        for old, new in (versions[:2], versions[2:]):
            before, after = (layers_of(held, f"{version}{end}") for version in (old, new))
            moved = sum(size for digest, size in after.items() if digest not in before)
            rows[old, name] = (len(before), sum(before.values()), moved)
    with capsys.disabled():
        print(json.dumps({" ".join(key): row for key, row in rows.items()}, indent=1))
    assert rows["v1.0.0", "rechunked"][1] < rows["v1.0.0", "built"][1]
    assert rows["v1.0.0", "rechunked"][2] < 0.03 * rows["v1.0.0", "built"][2]
    assert rows["v1.1.0", "built"][1] < 0.7 * rows["v1.0.0", "built"][1]


def change(reader: Reader, old: str, new: str) -> str:
    """A line of code, and the version after it."""
    reader.follow([
        f"echo '# {new}' >>classifier/main.py",
        f"sed -i 's/version: {old}/version: {new}/' registry-pipelines.yaml",
        "registry-pipelines ship classifier --until rechunk",
    ])  # fmt: skip
    return new


def layers_of(held: LayoutRegistry, tag: str) -> dict[Digest, int]:
    """Stored bytes by layer."""
    manifest = held.get_manifest("team/classifier", tag).content()
    assert isinstance(manifest, Manifest)
    return {layer.digest: layer.size for layer in manifest.layers}


def test_from_regsync(reader: Reader, registries: dict[str, EmbeddedServer]) -> None:
    told = reader.follow(blocks("from-regsync"))
    assert tags(registries, "mirror/team/app") == {"v1.0.0", "v1.1.0"}
    assert "0 of 2 copies made or completed; 0 B uploaded" in told


def test_from_harbor(reader: Reader, registries: dict[str, EmbeddedServer]) -> None:
    reader.follow(blocks("from-harbor"))
    assert tags(registries, "team/app") == tags(registries, "team/tool") == {"v1.0.0", "v1.1.0", "v2.0.0"}
    assert (reader.folder / "plan.json").exists()


def test_from_gcr(installed: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """At Google's double, whose gcr.io has two images with something attached."""
    with GoogleCloud(tmp_path / "google") as google:
        google.repository("ml-prod", "us", "gcr.io")
        old, new = google.registry("us", legacy="gcr.io"), google.registry("europe-west1")
        key = service_account_file(google.world, tmp_path / "account.json", google.endpoint)
        access = GoogleAccess(project="ml-prod", location="us", credentials_file=key, endpoint=google.endpoint)
        for repository in ("ml-prod/team/app", "ml-prod/tool"):
            place = Place(GarRegistry("gcr.io", access=access, dial=old.address), repository)
            for tag in ("v1.0.0", "v1.1.0"):
                image = push(place, tag)
                attach(place, subject=image, artifact_type="text/plain", content=tag.encode(), media_type="text/plain")
        there = {"gcr_host: gcr.io": old.address, "location: europe-west1": new.address}
        ends = {
            f"{text}}}": f"{text}, endpoint: {google.endpoint}, reachable_as: {address}}}"
            for text, address in there.items()
        }
        (tmp_path / "fresh").mkdir()
        reader = Reader(tmp_path / "fresh", installed, tmp_path_factory.mktemp("home"), ends)
        reader.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)
        told = reader.follow(blocks("from-gcr"))
        assert "4 of 4 copies made or completed" in told and "0 of 4 copies made or completed; 0 B uploaded" in told
        assert "v1.1.0" in told


@pytest.fixture(scope="module")
def beginner(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Who has nothing yet. pip takes wheels from a folder, and OSV's export is on this machine; we made both."""
    folder = tmp_path_factory.mktemp("fresh")
    for name, version in (("numpy", "2.4.6"), ("searchor", "2.4.1"), ("searchor", "2.4.2")):
        make_wheel(folder / "wheels", name, version)
    critical = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
    with OsvExport([*small_set(), *pypi("searchor", "2023-43364", fixed="2.4.2", vector=critical)]) as export:
        port, ui = free_ports(2)
        changed = f"s/port: 5500/port: {port}/; $ a advisories: {{feed: {export.url}}}"
        replaced = {
            # In what `init` wrote: another port, and a mirror in place of OSV's own export.
            "--promote manual": f"--promote manual\nsed -i '{changed}' registry-pipelines.yaml",
            "registry-pipelines dev": f"exec registry-pipelines dev --port {ui}",
        }
        reader = Reader(folder, installed, tmp_path_factory.mktemp("home"), replaced, ui)
        reader.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels")}
        yield reader


def living(group: int) -> list[str]:
    """Commands of the processes of a group that still run; the dead that nobody waited for do not count."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, _, its_group = rest.split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(name)
    return found


@contextmanager
def second_terminal(reader: Reader, command: str) -> Iterator[None]:
    """Where ``dev`` stays until it is told to end, and then leaves nothing behind. It is started as a script starts a
    job in the background, interrupts ignored: Dagster must not inherit that."""
    for word, own in reader.replaced.items():
        command = command.replace(word, own)
    log = (reader.folder / "second-terminal.log").open("wb")
    process = subprocess.Popen(
        ["bash", "-c", f"trap '' INT\n{command}"], cwd=reader.folder, env=reader.environment, stdout=log, stderr=log
    )
    try:
        yield
        [group] = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    finally:
        process.terminate()
        code = process.wait(patient(60))
        log.close()
    assert code == 0
    until = time.monotonic() + patient(30)
    while left := living(int(group)):  # killed, which a busy machine does when it comes to it
        assert time.monotonic() < until, left
        time.sleep(0.05)


def ask(reader: Reader, query: str) -> Any:
    """What the UI asks the webserver; None while it does not answer."""
    url = f"http://127.0.0.1:{reader.ui}/graphql"
    request = urllib.request.Request(url, json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=patient(10)) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


PAGE = """{ assetNodeOrError(assetKey: {path: ["promotion"]}) { ... on AssetNode {
    partitionKeys assetMaterializations(limit: 1) { partition } } } }"""


def until_the_release_has_its_page(reader: Reader) -> str:
    deadline = time.monotonic() + patient(120)
    while True:
        told = ask(reader, PAGE)
        shown = told["assetNodeOrError"] if told else {}
        if shown.get("assetMaterializations"):
            [key] = shown["partitionKeys"]
            assert shown["assetMaterializations"] == [{"partition": key}]
            return str(key)
        assert time.monotonic() < deadline, (reader.folder / "second-terminal.log").read_text()[-3000:]
        time.sleep(0.2)


@pytest.fixture(scope="module")
def first(beginner: Reader) -> tuple[Reader, str]:
    """Who has followed the first guide, with the key of the page that its release had in the UI."""
    commands = blocks("first-image")
    [stays] = [number for number, block in enumerate(commands) if block.startswith("registry-pipelines dev")]
    beginner.follow(commands[:stays])
    beginner.folder /= "first"
    with second_terminal(beginner, commands[stays]):
        beginner.follow(commands[stays + 1 :])
        page = until_the_release_has_its_page(beginner)
    assert ask(beginner, PAGE) is None
    return beginner, page


def named(reader: Reader, tag: str) -> Digest:
    """What a tag of the first image names."""
    held = LayoutRegistry(reader.folder / ".registry-pipelines" / "registries" / "local")
    return held.resolve("team/hello", tag).digest


def test_the_first_image_is_in_prod_and_has_its_page(first: tuple[Reader, str]) -> None:
    reader, page = first
    made = named(reader, "v0.1.0")
    assert named(reader, "prod") == made and page == f"hello:v0.1.0@{made.hex[:12]}"
    assert (reader.folder / ".registry-pipelines" / "dagster" / "dagster.yaml").exists()


def test_denied(first: tuple[Reader, str]) -> None:
    reader, _ = first
    told = reader.follow(blocks("denied"))
    assert "CVE-2023-43364" in told and "SEC-101" in told
    assert named(reader, "prod") == named(reader, "v0.1.0") != named(reader, "v0.2.1")
