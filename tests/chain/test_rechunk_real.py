"""A real image of `docker build`, rechunked: what Docker, containerd, dpkg, pip, GNU tar and skopeo say of it."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.registry.protocol import Place
from tests.build.roots import debian_root
from tests.chain.fleet import Fleet
from tests.doubles.containerd import containerd
from tests.doubles.docker_daemon import Docker, own_docker

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

DOCKERFILE = """
FROM base:1
COPY wheels /wheels
RUN PYTHONPATH=$(ls /wheels/pip*.whl) python3 -m pip install --no-index --find-links /wheels --break-system-packages \
    pip numpy=={numpy} requests && rm -rf /wheels
COPY main.py /app/main.py
CMD ["python3", "/app/main.py"]
"""
MAIN = "import numpy, requests\nprint('ready', numpy.__version__, requests.__version__)\n"


@dataclass
class Built:
    """Two releases of one image, pushed by Docker and rechunked."""

    docker: Docker
    place: Place
    chain: Chain
    results: dict[str, StageResult]

    def named(self, tag: str) -> str:
        return f"{self.place}:{tag}"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For Debian bookworm's Python, from the public index."""
    folder = tmp_path_factory.mktemp("wheels")
    told = ["--only-binary", ":all:", "--python-version", "3.11", "--quiet", "--dest", str(folder)]
    for wanted in (["pip", "requests", "numpy==2.2.0"], ["numpy==2.2.1"]):
        subprocess.run([sys.executable, "-m", "pip", "download", *told, *wanted], check=True)
    return folder


@pytest.fixture(scope="module")
def docker(peer: Callable[[str], str]) -> Iterator[Docker]:
    with own_docker(peer) as found:
        yield found


@pytest.fixture
def built(fleet: Fleet, docker: Docker, wheels: Path, tmp_path: Path, peer: Callable[[str], str]) -> Built:
    if not docker("images", "-q", "base:1"):
        root = debian_root(tmp_path / "root", "bookworm", peer("debootstrap"))
        with tempfile.TemporaryFile() as tar:
            subprocess.run(["tar", "-C", root, "--one-file-system", "--xattrs", "-c", "."], stdout=tar, check=True)
            tar.seek(0)
            subprocess.run([peer("docker"), "import", "-", "base:1"], stdin=tar, env=docker.environment, check=True)
    chain = fleet.reload(("team/app,", "team/app, rechunk: {},"))
    place, results = chain.place("app"), {}
    for tag, numpy in (("v1.0.0", "2.2.0"), ("v1.1.0", "2.2.1")):
        context = tmp_path / tag
        (context / "wheels").mkdir(parents=True)
        for wheel in wheels.iterdir():
            (context / "wheels" / wheel.name).hardlink_to(wheel)
        (context / "main.py").write_text(MAIN)
        (context / "Dockerfile").write_text(DOCKERFILE.format(numpy=numpy))
        docker("build", "--network", "none", "-t", f"{place}:{tag}", str(context))
        docker("push", f"{place}:{tag}")
        results[tag] = chain.rechunk("app", tag)
    return Built(docker, place, chain, results)


def exported(docker: Docker, name: str, program: str) -> dict[str, tuple[Any, ...]]:
    """What GNU tar's form of Docker's own root of a container holds, without times; compiled modules without the head
    that says when."""
    container = docker("create", "--network", "host", name).strip()
    found: dict[str, tuple[Any, ...]] = {}
    command = [program, "export", container]
    raw = subprocess.run(command, env=docker.environment, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for each in tar:
            content = b""
            if each.isreg():
                file = tar.extractfile(each)
                assert file is not None
                content = file.read()
                if each.name.endswith(".pyc"):
                    content = content[:4] + content[16:]
            found[each.name] = (
                *(each.type, each.mode, each.uid, each.gid, each.linkname),
                hashlib.sha256(content).hexdigest(),
                tuple(sorted(each.pax_headers.items())) if "SCHILY" in str(each.pax_headers) else (),
            )
    docker("rm", container)
    return found


def test_a_real_image_holds_the_same_runs_everywhere_and_the_next_one_moves_its_bump(
    built: Built, fleet: Fleet, peer: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    docker, first, second = built.docker, built.results["v1.0.0"], built.results["v1.1.0"]
    assert first.facts["same_tree"] and second.facts["same_tree"] and second.facts["previous"] == first.digest
    # Docker: pulls it, runs it, and exports the same root.
    docker("pull", built.named("v1.1.0-rechunked"))
    for tag in ("v1.1.0", "v1.1.0-rechunked"):
        run = ("run", "--rm", "--network", "host", built.named(tag))
        assert docker(*run).startswith("ready 2.2.1 ")
        assert "No broken requirements found." in docker(*run, "python3", "-m", "pip", "check")
    verified = [
        docker("run", "--rm", "--network", "host", built.named(tag), "sh", "-c", "dpkg -V; echo ended $?")
        for tag in ("v1.1.0", "v1.1.0-rechunked")
    ]
    assert verified[0] == verified[1] and "ended 0" in verified[1]
    before, after = (exported(docker, built.named(tag), peer("docker")) for tag in ("v1.1.0", "v1.1.0-rechunked"))
    assert len(after) > 5_000 and before == after
    # Python loads what was compiled, without a look at a time.
    compiled = "import numpy,sys; print(open(numpy.__cached__,'rb').read(8)[4])"
    assert docker("run", "--rm", "--network", "host", built.named("v1.1.0-rechunked"), "python3", "-c", compiled) == (
        "1\n"
    )
    # containerd 1.6: pulls and runs it.
    with (
        tempfile.TemporaryDirectory(prefix="ctd-") as folder,
        containerd(peer("containerd"), peer("ctr"), Path(folder)) as ctr,
    ):
        name = built.named("v1.1.0-rechunked")
        ctr("images", "pull", "--plain-http", name)
        assert ctr("run", "--rm", name, "one").startswith("ready 2.2.1 ")
    # skopeo reads and copies it.
    with tempfile.TemporaryDirectory() as folder:
        source = f"docker://{built.named('v1.1.0-rechunked')}"
        told = subprocess.run(
            [peer("skopeo"), "inspect", "--tls-verify=false", source], capture_output=True, check=True, text=True
        )
        assert len(json.loads(told.stdout)["Layers"]) == second.facts["layers"]
        copy = [peer("skopeo"), "copy", "--quiet", "--src-tls-verify=false", source, f"dir:{folder}/copy"]
        subprocess.run(copy, check=True)
    # Copied to another registry the next release stores its bump alone: counted by what its folder holds.
    target, held = fleet.folder / "target", dict[str, int]()
    for tag in ("v1.0.0-rechunked", "v1.1.0-rechunked", "v1.0.0", "v1.1.0"):
        copied = ["copy", "--quiet", "--src-tls-verify=false", f"docker://{built.named(tag)}"]
        folder = target / ("rechunked" if "rechunked" in tag else "pushed")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([peer("skopeo"), *copied, f"oci:{folder}:{tag}"], check=True)
        held[tag] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    moved = held["v1.1.0-rechunked"] - held["v1.0.0-rechunked"]
    moved_before = held["v1.1.0"] - held["v1.0.0"]
    assert moved < 1.02 * int(second.facts["new_bytes"]) + 100_000 and moved < 0.9 * moved_before
    checked = built.chain.verify_rechunked("app", "v1.1.0-rechunked")
    assert checked.ok
    with capsys.disabled():
        print(json.dumps({"first": dict(first.facts), "second": dict(second.facts), "held": held}, indent=1))
        print("seconds", first.seconds, second.seconds, checked.seconds)
