"""What README.md says is true: its commands, its configuration and its Python run on what `demo` leaves.

The demonstration is the real one (the shipped configuration, wheels from the package index), on ports of its own, run
by the installed wheel in a folder that has no clone.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.result import READING
from registry_pipelines.cli import main
from registry_pipelines.cli.demo_bases import VERSIONS
from registry_pipelines.config import Config, load
from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from tests.answers import answered
from tests.conftest import PEERS
from tests.doubles.containerd import containerd
from tests.doubles.docker_daemon import own_docker
from tests.installed import write_demo
from tests.needs import missing
from tests.patience import patient

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
pytestmark = pytest.mark.timeout(600)
"""The demonstration's wheels are downloaded, and other tests may want the machine at the same time."""

ANSWER = ["2026-01    172.0", "2026-02    185.0", "2026-03    195.3", "Freq: M"]
"""100 + 3 * 24 + 20 * sin(month / 12 of a circle), and so on: the past is that curve, so its forecast is known."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(program: str) -> list[str]:
    """The README's commands that begin with a program's name, one line each."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.split(" ")[0] == program]


@dataclass
class Demonstration:
    """What two runs of the demonstration said and left; its registries are served again."""

    config: Config
    said: dict[str, Any]
    """By the first run, as JSON."""
    shown: str
    """By the second, to a person."""
    files: list[dict[Path, int]]
    environment: dict[str, str]
    ports: dict[str, str]
    python: Path
    """Of the environment that has the wheel."""

    @property
    def folder(self) -> Path:
        return self.config.state.parent

    def release(self, image: str) -> str:
        [key] = {event["release"] for event in self.said["events"] if event["release"].startswith(f"{image}:")}
        return str(key)

    def digest(self, image: str) -> Digest:
        return Digest(self.release(image).rpartition("@")[2])

    def here(self, command: str) -> str:
        """The command with our folder and ports in place of the checkout's."""
        text = command.replace("deploy/demo/", f"{self.folder}/")
        return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{self.ports[found[1]]}", text)

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A line of the README as a shell runs it that was told where the programs are."""
        return subprocess.run(
            ["sh", "-c", self.here(command)],
            env={**self.environment, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=patient(120),
        )  # fmt: skip


def stored(config: Config) -> dict[Path, int]:
    """Every blob of every registry with its inode: another one when it is written again. Looks change its times."""
    found = (path for path in (config.state / "registries").rglob("blobs/*/*") if path.is_file())
    return {path: path.stat().st_ino for path in found}


@pytest.fixture(scope="module")
def demonstration(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    """Run it twice, then serve its registries as `make serve` does."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {
        **os.environ,
        "HOME": str(tmp_path_factory.mktemp("home")),
        "PATH": f"{PEERS}:{os.environ['PATH']}",
    }
    for name in ("DOCKER_CONFIG", "DAGSTER_HOME", "REGISTRY_PIPELINES_CONFIG", "PYTHONPATH"):
        environment.pop(name, None)
    path, ports = write_demo(installed, folder)
    config = load(path)
    said: list[str] = []
    files: list[dict[Path, int]] = []
    for options in (["--json"], []):
        command = [installed, "demo", *options]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
        files.append(stored(config))
    command = [installed, "serve", "--config", path]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            for _ in ports:
                assert "serves" in server.stdout.readline()
            python = installed.with_name("python")
            yield Demonstration(config, answered(said[0]), said[1], files, environment, ports, python)
        finally:
            server.terminate()
        assert server.wait(patient(30)) == 0


def test_the_first_image_ships_and_the_second_is_denied(demonstration: Demonstration) -> None:
    outcomes = {each["release"]: each for each in demonstration.said["outcomes"]}
    shipped, denied = (demonstration.release(image) for image in ("forecaster", "recommender"))
    assert outcomes[shipped]["ships"] and not outcomes[denied]["ships"]
    assert any("CVE-2023-43364" in reason for reason in outcomes[denied]["reasons"])
    chain = Chain(demonstration.config)
    for image, key in (("forecaster", shipped), ("recommender", denied)):
        digest = demonstration.digest(image)
        places = {name for name in demonstration.config.registries if holds(chain, name, digest)}
        assert places == (set(demonstration.config.registries) if key == shipped else {"us-east-1"})


def holds(chain: Chain, name: str, digest: Digest) -> bool:
    registry = chain.registry(name)
    for repository in registry.repositories():
        try:
            registry.resolve(repository, digest)
        except NotFound:
            continue
        return True
    return False


def test_it_ends_with_what_the_registries_would_cost_and_counts_what_lies_on_the_disk(
    demonstration: Demonstration,
) -> None:
    cost = demonstration.said["cost"]
    assert {row["team"] for row in cost["rows"]} == {"forecasting", "recommending", "platform"}
    assert cost["facts"]["usd_per_month"] > 0 and any("made up" in note for note in cost["notes"])
    for row in cost["tables"]["registries"]:
        below = demonstration.config.state / "registries" / row["registry"]
        # A blob counts in each repository, also where it was mounted, so that both names are one file.
        paths = [path for path in demonstration.files[0] if below in path.parents]
        files = {(path.parent, path.stat().st_ino): path.stat().st_size for path in paths}
        assert 0 <= sum(files.values()) - row["fair_bytes"] < 100, row
    assert "month by month" in demonstration.shown and "made up for the demonstration" in demonstration.shown


def test_every_package_is_pinned_so_that_pip_is_asked_once(demonstration: Demonstration) -> None:
    for event in demonstration.said["events"]:
        if event["stage"] == "build":
            build = demonstration.config.images[event["release"].partition(":")[0]].build
            assert build is not None and len(build.requirements) == event["facts"]["wheels"]


def test_every_stage_of_the_denied_image_says_so(demonstration: Demonstration) -> None:
    statuses = {
        (each["release"].partition(":")[0], each["stage"]): each["status"] for each in demonstration.said["events"]
    }
    assert statuses["forecaster", "replicate:gcp"] == statuses["forecaster", "mirror:airgap"] == "ok"
    assert statuses["recommender", "judge"] == "denied"
    assert "ok" not in {statuses.get(("recommender", each)) for each in ("promote", "replicate:gcp", "mirror:airgap")}
    assert statuses["", "sync:bases"] == "ok"


def test_the_page_of_the_denied_release_tells_its_whole_story(
    demonstration: Demonstration, installed: Path, tmp_path: Path
) -> None:
    """By the installed program: source to places, each with the key that signed it, for who has the page alone."""
    key, page = demonstration.release("recommender"), tmp_path / "denied.html"
    command = [installed, "report", "custody", key, "--config", demonstration.config.path, "--json", "--html", page]
    done = subprocess.run(command, env=demonstration.environment, capture_output=True, text=True, timeout=patient(60))
    told = answered(done.stdout)
    assert told["sentence"].startswith("denied as recommender by policy demo; on no channel now; at 1 of 5 places")
    signed = {each["chapter"] for each in told["statements"] if each["state"] == "verified"}
    assert signed >= {"source", "builder", "packages", "findings", "signatures", "verdicts"}
    assert {each["state"] for each in told["statements"]} == {"verified", "seen"}
    assert {"people", "channels", "deployments", "access", "revocations"} <= set(told["missing"])
    [verdict] = [each for each in told["statements"] if each["chapter"] == "verdicts"]
    assert any("CVE-2023-43364" in each for each in verdict["details"]) and verdict["signer"] and verdict["evidence"]
    assert {(each["id"], each["now"]) for each in told["findings"]} == {("CVE-2023-43364", "open")}
    assert {"searchor", "libc6"} <= {each["name"] for each in told["packages"]}
    shown = page.read_text()
    assert all(each in shown for each in ("CVE-2023-43364", "searchor", "denied as recommender", told["digest"]))
    assert sum(each["state"] == "seen" and " is not at " in f" {each['says']}" for each in told["statements"]) == 4


def test_the_base_images_are_at_both_replicas_as_they_are(demonstration: Demonstration) -> None:
    chain = Chain(demonstration.config)
    tags = {name: set(chain.registry(name).tags("demo/base")) for name in ("us-east-1", "eu-west-1")}
    assert tags == {"us-east-1": set(VERSIONS), "eu-west-1": {"1.0.0", "1.1.0"}}
    command = ["verify-copy", "us-east-1/demo/base:1.1.0", "gcp/replicas/demo/base"]
    told = CliRunner().invoke(main, [*command, "--config", str(demonstration.config.path)])
    assert told.exit_code == 0, told.output


def test_a_second_run_changes_nothing_and_moves_no_blob(demonstration: Demonstration) -> None:
    lines = [line for line in demonstration.shown.splitlines() if " v1.0.0 " in line or ":v1.0.0 " in line]
    stages = [line for line in lines if "ships" not in line and "denied;" not in line]
    acting = [line for line in stages if line.split()[1] not in READING]
    assert len(acting) > 15 and all("unchanged" in line or "skipped" in line for line in acting)
    for said in (
        "unchanged: everything was there already, looked at in",
        "forecaster:v1.0.0 ships; it is at",
        "recommender:v1.0.0 is denied; it is not at",
    ):
        assert said in demonstration.shown
    assert demonstration.files[0] == demonstration.files[1] != {}


@pytest.mark.peer("skopeo")
@pytest.mark.parametrize("command", commands("skopeo"))
def test_skopeo(demonstration: Demonstration, command: str, peer: Callable[[str], str]) -> None:
    peer("skopeo")
    done = demonstration.run(command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Digest"] == demonstration.digest("forecaster")


@pytest.mark.peer("dockerd", "docker")
@pytest.mark.parametrize("command", commands("docker"))
def test_docker(demonstration: Demonstration, command: str, peer: Callable[[str], str]) -> None:
    with own_docker(peer) as docker:
        done = demonstration.run(command, **docker.environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ANSWER


@pytest.mark.peer("cosign")
@pytest.mark.parametrize("command", commands("cosign"))
def test_cosign(demonstration: Demonstration, command: str, peer: Callable[[str], str]) -> None:
    peer("cosign")
    done = demonstration.run(command)
    assert done.returncode == 0, done.stderr
    assert demonstration.digest("forecaster").hex in done.stderr + done.stdout or "payload" in done.stdout
    denied = command.replace("forecaster:prod", "recommender:v1.0.0")
    assert denied != command and demonstration.run(denied).returncode != 0


@pytest.mark.peer("cosign")
def test_no_scanner_vouches_for_the_denied_image(demonstration: Demonstration, peer: Callable[[str], str]) -> None:
    """At the source, where it is: its signature verifies, and only the scanner's attestation is missing."""
    peer("cosign")
    codes = {}
    for command in commands("cosign"):
        where = re.sub(r"127\.0\.0\.1:\d+/ml/forecaster:prod", "127.0.0.1:5501/ml/recommender:v1.0.0", command)
        codes[command.split(" ")[1]] = demonstration.run(where).returncode
    assert codes["verify"] == 0 and codes["verify-attestation"] != 0


@pytest.mark.peer("containerd", "ctr-remote")
def test_containerd_pulls_and_runs_the_image_across_the_air_gap(
    demonstration: Demonstration, peer: Callable[[str], str]
) -> None:
    programs = peer("containerd"), peer("ctr-remote")
    if os.getuid() != 0:
        missing("containerd needs root")
    name = demonstration.here("127.0.0.1:5505/ml/forecaster:prod")
    # Its socket's path must stay below 108 characters, so not pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="ctrd-") as folder, containerd(*programs, Path(folder)) as ctr:
        ctr("images", "pull", "--plain-http", name)
        [_, row] = ctr("images", "check").splitlines()
        assert row.split()[2] == demonstration.digest("forecaster") and "complete" in row
        assert ctr("run", "--rm", "--net-host", name, "one").splitlines() == ANSWER
        ctr("images", "rm", "--sync", name)


def test_the_example_configuration_is_one(tmp_path: Path) -> None:
    [text] = blocks("yaml")
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(text)
    config = load(path, dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x"))
    assert set(config.images) == set(yaml.safe_load(text)["images"]) != set()


def test_the_example_in_python(demonstration: Demonstration) -> None:
    [text] = blocks("python")
    done = subprocess.run(
        [demonstration.python, "-c", text],
        env=demonstration.environment, cwd=demonstration.folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reasons = ast.literal_eval(done.stdout)
    assert reasons and all(reason.startswith("accepted: ") for reason in reasons)


def test_it_names_every_command_and_none_that_is_not_there() -> None:
    [table] = re.findall(r"\n\| \| \|\n(.*?)\n\n", README, re.DOTALL)
    named = {quoted.split(" ")[0] for quoted in re.findall(r"`(?:registry-pipelines )?([a-z][^`]*)`", table)}
    assert named == set(main.list_commands(click.Context(main)))


def test_its_figures_are_those_of_the_benchmarks() -> None:
    [table] = re.findall(r"\n\| work \| peer \| times as fast \|\n\|[-|]+\n(.*?)\n\n", README, re.DOTALL)
    page = ""
    for row in table.splitlines():
        _, work, _, figure, _ = (cell.strip() for cell in row.split("|"))
        page = link[1] if (link := re.search(r"\]\((docs/benchmarks/[^)]+)\)", work)) else page  # "the same": as above
        told = re.findall(r"(?<![\d.,])[\d.]+(?=x? *\||\*\*)", (ROOT / page).read_text())
        assert figure in told, f"{page} does not say {figure}: {work}"


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
