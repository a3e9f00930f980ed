"""Which engine runs a Dockerfile, why, and what is told where none can. (Real engines: the other files here.)"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.build.dockerfile.choosing import choose_engine
from registry_pipelines.build.dockerfile.engines.buildah import Buildah
from registry_pipelines.build.dockerfile.engines.buildctl import Buildctl
from registry_pipelines.build.dockerfile.engines.buildx import Buildx
from registry_pipelines.build.dockerfile.engines.docker import Docker as Classic
from registry_pipelines.build.dockerfile.model import DockerfileSpec, EngineName
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile
from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, ToolMissing
from tests.build.dockerfile.kit import Kit
from tests.doubles.docker_daemon import Docker
from tests.needs import needed_module

ENGINES = [Buildx(), Buildctl(), Buildah(), Classic()]


def spec(engine: EngineName = "auto") -> DockerfileSpec:
    return DockerfileSpec(name="x", version="1", context=Path(), engine=engine)


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program of an engine is found, and no daemon."""
    needed_module("docker", "docker")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")


PLAIN = parse_dockerfile("FROM a\nRUN true\n")
MOUNTS = parse_dockerfile("FROM a\n\nRUN --mount=type=cache,target=/x true\nCOPY --link a b\n", where="my/Dockerfile")


@pytest.mark.usefixtures("nothing_else")
def test_no_engine_is_told_with_what_was_looked_for() -> None:
    with pytest.raises(ToolMissing) as caught:
        choose_engine(spec(), PLAIN, ENGINES)
    for name in ("buildx", "buildctl", "buildah", "docker"):
        assert f"\n  {name}: " in str(caught.value)
    assert "docker-buildx" in caught.value.do and "Buildah" in caught.value.do
    with pytest.raises(ToolMissing, match="there is no buildah"):
        choose_engine(spec("buildah"), PLAIN, ENGINES)


@pytest.mark.peer("dockerd", "docker", "busybox")
@pytest.mark.usefixtures("nothing_else")
def test_the_classic_engine_alone(docker20: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker20.environment["DOCKER_HOST"])
    choice = choose_engine(spec(), PLAIN, ENGINES)
    assert choice.engine is ENGINES[3] and not choice.found.buildkit
    assert choice.why.startswith("Docker 20.10") and "buildah: there is no buildah" in choice.why
    with pytest.raises(InputError) as caught:
        choose_engine(spec(), MOUNTS, ENGINES)
    assert caught.value.where == "my/Dockerfile:3"
    assert "line 3: RUN --mount: the classic engine has no mounts\n" in str(caught.value)
    assert "line 4: COPY --link" in str(caught.value) and "looked for buildx: " in str(caught.value)
    with pytest.raises(InputError, match="engine docker does not do"):
        choose_engine(spec("docker"), MOUNTS, ENGINES)


@pytest.mark.peer("../docker28/dockerd", "docker-buildx", "busybox")
def test_buildkit_comes_first_and_the_named_one_before_it(kit: Kit) -> None:
    needed_module("docker", "docker")
    choice = choose_engine(spec(), MOUNTS, ENGINES)
    assert (choice.engine.name, choice.found.buildkit) == ("buildx", True)
    assert choice.why.endswith("the first that is there and does all of it")
    named = choose_engine(spec("docker"), PLAIN, ENGINES)
    assert (named.engine.name, named.why.endswith("`engine: docker`")) == ("docker", True)


def test_the_command_prints_an_ignore_file_and_builds_nothing(tmp_path: Path) -> None:
    (tmp_path / "app/.git").mkdir(parents=True)
    (tmp_path / "app/.git/pack").write_bytes(b"x" * 5000)
    (tmp_path / "app/Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / "app/.dockerignore").write_text("*.log")
    (tmp_path / "rp.yaml").write_text(
        "registries:\n  here: {kind: layout, root: store}\nimages:\n"
        "  app: {registry: here, repository: app, dockerfile: {version: v1.0.0, context: app}}\n"
        "  other: {registry: here, repository: other}\n"
    )
    command = ["--config", str(tmp_path / "rp.yaml")]
    done = CliRunner().invoke(main, ["build", "app", "--propose-ignore", *command])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("*.log\n# version control") and done.stdout.endswith(")\n**/.git\n")
    assert "keeps 4.9 KiB out" in done.stderr and ".git/" in done.stderr
    answer = json.loads(CliRunner().invoke(main, ["build", "app", "--propose-ignore", "--json", *command]).stdout)[
        "result"
    ]
    assert answer["lines"] == [{"pattern": "**/.git", "why": answer["lines"][0]["why"], "bytes": 5000, "files": 1}]
    assert answer["text"] == done.stdout and answer["largest"][0] == {"path": ".git/pack", "bytes": 5000}
    for words, said in (([], "is for one image"), (["other"], "no dockerfile section")):
        refused = CliRunner().invoke(main, ["build", *words, "--propose-ignore", *command])
        assert refused.exit_code == 8 and said in refused.output
