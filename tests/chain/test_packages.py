"""Package indexes over a configuration: builds, the provenance they leave, commands, and wheels across a gap."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.chain import Chain
from registry_pipelines.chain.wheels import Asked
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.evidence.artifacts import attached
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.build.packages.test_publishing import project
from tests.build.wheels import make_wheel
from tests.doubles.package_index import PackageIndex
from tests.scan.images import push_image

SECRET = "hunter2-not-to-be-seen"
CONFIG = """\
registries:
  here: {{kind: layout, root: registry}}
packages:
  ours: {{kind: simple, url: "{ours}", upload: "{upload}", username: robot, password: "${{SECRET}}",
    names: [acme-core]}}
  public: {{kind: simple, url: "{public}", public: true}}
  carried: {{kind: wheels, artifact: "here/wheels:latest"}}
python_packages:
  tool: {{source: tool, to: ours}}
images:
  app:
    registry: here
    repository: ml/app
    build: {{version: {version}, base: "here/base:v1", python: "3.12", libc: none, platforms: [linux/amd64],
      requirements: [acme-core], index: [ours, public]}}
  far:
    registry: here
    repository: ml/far
    build: {{version: v1, base: "here/base:v1", python: "3.12", libc: none, platforms: [linux/amd64],
      requirements: [acme-core], index: [carried]}}
signing: {{generate: true}}
"""


@dataclass
class Team:
    folder: Path
    ours: PackageIndex
    public: PackageIndex

    def chain(self, version: str = "v1") -> Chain:
        text = CONFIG.format(ours=self.ours.url, upload=self.ours.upload, public=self.public.url, version=version)
        (self.folder / "registry-pipelines.yaml").write_text(text)
        return Chain(load(self.folder / "registry-pipelines.yaml", {"SECRET": SECRET}))

    def run(self, *words: str, code: int = 0) -> Result:
        done = CliRunner(env={"SECRET": SECRET}).invoke(
            main, [*words, "--config", str(self.folder / "registry-pipelines.yaml")]
        )
        assert done.exit_code == code, done.output
        assert SECRET not in done.output
        return done


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("SECRET", SECRET)
    with ExitStack() as stack:
        ours = stack.enter_context(PackageIndex(user=f"robot:{SECRET}"))
        public = stack.enter_context(PackageIndex())
        ours.add(make_wheel(tmp_path / "ours", "acme-core", "1.0", requires=("leaf",)))
        public.add(make_wheel(tmp_path / "public", "acme-core", "99.0"))
        public.add(make_wheel(tmp_path / "public", "leaf", "2.0"))
        public.status["leaf"] = ("archived", "done")
        project(tmp_path / "tool")
        team = Team(tmp_path, ours, public)
        push_image(Place(team.chain().registry("here"), "base"), [{"etc/os-release": "ID=test\n"}], tag="v1")
        yield team


def wheels_in(chain: Chain, image: str) -> dict[str, dict[str, Any]]:
    """By project, what the provenance of a release says of its wheel."""
    release = chain.find_release(f"{image}:v1")
    [found] = attached(chain.place(image), release.digest, artifact_type=PROVENANCE_ARTIFACT)
    statement = json.loads(found.content)
    inputs = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return {each["uri"].split("/")[1].split("@")[0]: each for each in inputs if each["uri"].startswith("pkg:")}


def test_a_build_says_where_each_wheel_came_from_and_crosses_a_gap(team: Team) -> None:
    chain = team.chain()
    built = chain.build("app")
    assert built.facts["index"] == "ours public" and built.facts["wheels"] == 2
    assert any("archived: done" in note for note in built.notes)
    core, leaf = (wheels_in(chain, "app")[name] for name in ("acme-core", "leaf"))
    assert core["annotations"] == {"index": "ours"}
    assert core["downloadLocation"] == f"{team.ours.origin}/files/acme-core/acme_core-1.0-py3-none-any.whl"
    assert leaf["annotations"]["index"] == "public" and leaf["annotations"]["status"] == "archived: done"
    assert not chain.build("app").changed
    pushed = chain.push_wheels("here/wheels", Asked(image="app"))
    place = Place(chain.registry("here"), "wheels")
    digest = place.registry.resolve("wheels", "latest").digest
    [word] = read_attestations(place, digest, load_verifier(chain.config.trusted_keys)).verified
    origins = word.predicate["origins"]
    assert {name: each["index"] for name, each in origins.items()} == {
        "acme_core-1.0-py3-none-any.whl": "ours",
        "leaf-2.0-py3-none-any.whl": "public",
    }
    team.ours.down = team.public.down = True  # behind the gap
    far = chain.build("far")
    assert far.facts["wheels"] == 2
    core, leaf = (wheels_in(chain, "far")[name] for name in ("acme-core", "leaf"))
    assert core["annotations"] == {"index": "carried", "carriedFrom": "ours"}
    assert leaf["annotations"] == {"index": "carried", "carriedFrom": "public"}
    assert leaf["downloadLocation"].startswith(team.public.origin)
    assert pushed.digest
    written = [path for path in team.folder.rglob("*") if path.is_file() and path.suffix != ".whl"]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_builds_go_on_while_the_public_index_is_down(team: Team) -> None:
    """A new version of the image, with a new wheel of the private index."""
    chain = team.chain()
    chain.build("app")
    team.public.down = True
    team.ours.add(make_wheel(team.folder / "ours", "acme-core", "1.1", requires=("leaf",)))
    built = team.chain("v2").build("app")
    assert built.changed and built.facts["wheels"] == 2
    assert any("does not answer" in note for note in built.notes)


def test_the_commands(team: Team) -> None:
    """list asks nobody; check says what comes from where, and of a public namesake; publish is done once."""
    listed = answered(team.run("packages", "list", "--json").stdout)
    assert [row["index"] for row in listed["rows"]] == ["ours", "public", "carried"]
    assert not team.ours.asked and not team.public.asked
    both = ("--index", "ours", "--index", "public")
    checked = answered(team.run("packages", "check", "leaf", "acme.core", "--json", *both).stdout)
    rows = {row["project"]: (row["index"], row["newest"], row["status"]) for row in checked["tables"]["projects"]}
    assert rows == {"leaf": ("public", "2.0", "archived: done"), "acme-core": ("ours", "1.0", "")}
    assert any("never taken" in note for note in checked["notes"])
    lacking = team.run("packages", "check", "absent", *both, code=3)
    assert "no index has absent" in lacking.output
    team.run("packages", "check", "--index", "carried", code=4)
    shelf = str(team.folder / "public")
    assert "2 wheels sent to ours" in team.run("packages", "publish", shelf, "--to", "ours").output
    assert "unchanged" in team.run("packages", "publish", shelf, "--to", "ours").output
    team.run("packages", "publish", shelf, code=8)
    team.run("packages", "publish", shelf, "--to", "carried", code=4)
    made = answered(team.run("packages", "publish", "--package", "tool", "--json").stdout)
    assert made["changed"] and made["rows"][0]["version"] == "1.0"
    assert not answered(team.run("packages", "publish", "--package", "tool", "--json").stdout)["changed"]
    (team.folder / "tool/acme_tool/__init__.py").write_text("VALUE = 2\n")
    assert "new version" in team.run("packages", "publish", "--package", "tool", code=6).output


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("index: [ours, public]", "index: [our]", "unknown package index `our`; did you mean `ours`?"),
        ("index: [carried]", "index: [carried], find_links: [x]", "stands in place of"),
        ("index: [ours, public]", "index: [ours, ours]", "names an index twice"),
        ("public: true}}", "public: true, names: [Acme_Core]}}", "comes from one index alone"),
        ("to: ours}}", "to: public}}", "has no `upload`"),
        ("to: ours}}", "to: carried}}", "is of the kind `wheels`"),
        ("public: true}}", "public: true, attestations: require}}", "needs `signing.trust_root`"),
        ("public: true}}", "public: true, url: 'https://a:b@c.example/'}}", "twice"),
        ('url: "{public}"', 'url: "https://robot:secret@c.example/simple/"', "without user and password"),
        ('url: "{public}"', 'url: "http://c.example/simple/"', "plain http is for this machine alone"),
        ("kind: simple, url: \"{public}\"", "kind: pypi", "kind: pip"),
        ("requirements: [acme-core], index: [ours, public]", "requirements: ['-i https://x/'], index: [ours]", ""),
    ],
)  # fmt: skip
def test_what_config_check_says(old: str, new: str, said: str, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    assert old in CONFIG
    monkeypatch.setattr(f"{__name__}.CONFIG", CONFIG.replace(old, new, 1))
    text = CONFIG.format(ours=team.ours.url, upload=team.ours.upload, public=team.public.url, version="v1")
    (team.folder / "registry-pipelines.yaml").write_text(text)
    assert (said or "says where packages come from") in team.run("config", "check", code=8).output
