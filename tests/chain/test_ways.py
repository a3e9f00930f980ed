"""Releases that ECR replicates by itself, on two registries of the double with real ones behind, through the chain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import NotFound, PromotionDenied
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.release import Release
from tests.answers import document
from tests.doubles.aws.ecr import EcrDouble
from tests.doubles.aws.ecr_replication import EcrReplication
from tests.doubles.aws.front import ACCOUNT
from tests.needs import needed_module
from tests.scan.images import push_image

AWAY = "us-east-1"
CLOSED = 'lab: {kind: distribution, host: "127.0.0.1:9"}'
CONFIG = """
registries:
  eu: {{kind: ecr, account: "{account}", region: eu-west-1, endpoint: "{url}", reachable_as: "{here}"}}
  us: {{kind: ecr, account: "{account}", region: us-east-1, endpoint: "{url}", reachable_as: "{away}"}}
  lab: {{kind: distribution, host: "{lab}"}}
images:
  app: {{registry: eu, repository: ml/app, targets: [us, copies, lab]}}
targets:
  us: {{registry: us, arrival: {arrival}, max_lag: 10m}}
  copies: {{registry: us, prefix: copies}}
  lab: {{registry: lab}}
policies: {{default: {{required: [], deny_warnings: []}}}}
signing: {{generate: true}}
infra:
  eu:
    kind: ecr
    replication: [{{to: [us-east-1], prefixes: [ml/]}}]
"""


class World:
    def __init__(self, ecr: EcrDouble, folder: Path, away: str, lab: str) -> None:
        self.ecr, self.folder, self._away, self.lab = ecr, folder, away, lab
        self.replication = ecr.area(EcrReplication)

    def chain(self, arrival: str = "20s") -> Chain:
        path = self.folder / "registry-pipelines.yaml"
        values = {"account": ACCOUNT, "url": self.ecr.url, "here": self.ecr.proxy_address, "away": self._away}
        path.write_text(CONFIG.format(arrival=arrival, lab=self.lab, **values))
        return Chain(load(path))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    needed_module("boto3", "aws")
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(tmp_path / name)) for name in ("eu", "us", "lab")]
        ecr = EcrDouble(servers[0].address)
        away = ecr.add(ACCOUNT, AWAY, servers[1].address)
        stack.enter_context(ecr)
        for name, value in ecr.environment.items():
            monkeypatch.setenv(name, value)
        yield World(ecr, tmp_path, away, servers[2].address)


def released(chain: Chain, tag: str = "v1.0.0") -> Release:
    """An image that is judged and promoted."""
    made = push_image(chain.place("app"), [{"etc/a": tag}], tag=tag)
    release = Release("app", tag, made.digest)
    assert chain.judge(release).ok
    chain.promote(release)
    return release


def lag(chain: Chain) -> dict[str, dict[str, Any]]:
    return {str(row["edge"]): dict(row) for row in chain.replication_lag().rows}


def test_what_ecr_brings_is_read_back_and_completed_and_the_rest_is_copied(world: World) -> None:
    chain = world.chain()
    assert chain.apply_infra("eu").ok
    release = released(chain)
    results = chain.replicate_to(release, ["us", "copies", "lab"])
    native, copied = results["us"], results["copies"]
    assert not isinstance(native, Exception) and not isinstance(copied, Exception)
    assert native.facts["way"] == "native" and native.facts["receipt"] and native.facts["blobs"] == 0
    assert copied.facts["way"] == "transfer" and "awaited_s" not in copied.facts
    assert not chain.compare_replica(release, "us").differences
    rows = lag(chain)
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(
        ("eu -> us", "eu -> copies", "eu -> lab"), "there"
    )
    assert rows["eu -> us"]["took_s"] >= 0 and rows["eu -> copies"]["took_s"] == ""
    arrivals = [name for name in chain.metrics(to=()).facts if name.startswith("replication_arrival_seconds")]
    assert len(arrivals) == 1 and arrivals[0].endswith(" us")


def test_what_ecr_does_not_bring_in_time_is_copied_and_said(world: World) -> None:
    chain = world.chain(arrival="1s")
    assert chain.apply_infra("eu").ok
    world.replication.hold = True
    release = released(chain)
    row = lag(chain)["eu -> us"]
    assert row["state"] == "behind" and row["lag_s"] >= 0 and "ECR says IN_PROGRESS" in row["why"]
    result = chain.replicate(release, "us")
    assert result.ok and "ECR did not bring it in time, so it was copied" in result.notes
    assert lag(chain)["eu -> us"]["state"] == "there"
    world.replication.release()
    assert not chain.compare_replica(release, "us").differences


def test_a_lag_is_said_with_its_cause_and_an_unknown_one_is_no_zero(world: World) -> None:
    chain = world.chain()
    assert chain.apply_infra("eu").ok
    world.replication.broken = {"ml/app"}
    released(chain)
    told = chain.replication_lag()
    assert told.ok and told.facts["behind"] == 3, "ten minutes are not over"
    assert "ECR says FAILED KmsAccessDenied" in lag(chain)["eu -> us"]["why"]
    path = world.folder / "registry-pipelines.yaml"
    text = path.read_text().replace("max_lag: 10m", "max_lag: 0s")
    path.write_text(text.replace(f'lab: {{kind: distribution, host: "{world.lab}"}}', CLOSED))
    result = CliRunner().invoke(main, ["infra", "edges", "--lag", "--json", "--config", str(path)])
    assert result.exit_code == 3, result.output
    [answer] = document(result.stdout)["result"]["results"]
    assert (answer["facts"]["behind"], answer["facts"]["unknown"]) == (2, 1)
    assert answer["facts"]["lag_s eu -> us"] > 0 and "lag_s eu -> lab" not in answer["facts"]
    told = "\n".join(answer["reasons"])
    assert "eu -> us app:prod is behind for" in told and "eu -> lab app:prod is behind since when is not known" in told


def test_what_ecrs_api_does_not_tell_makes_no_lag_unknown(world: World) -> None:
    """Whether a release is there is read from the registry itself."""
    chain = world.chain()
    assert chain.apply_infra("eu").ok
    world.ecr.deny("ecr:DescribeImages", "ecr:DescribeImageReplicationStatus")
    release = released(chain)
    chain.replicate(release, "us")
    row = lag(chain)["eu -> us"]
    assert row["state"] == "there" and row["took_s"] == ""
    world.replication.hold = True
    released(chain, "v1.1.0")
    row = lag(chain)["eu -> us"]
    assert row["state"] == "behind" and row["lag_s"] >= 0 and "ECR does not say why" in row["why"]


def test_the_ways_are_shown_with_their_reasons(world: World) -> None:
    world.chain()
    path = str(world.folder / "registry-pipelines.yaml")
    shown = CliRunner().invoke(main, ["infra", "edges", "--config", path])
    assert shown.exit_code == 0 and "ECR replicates it to 123456789012/us-east-1" in shown.stdout
    assert "lab is of kind distribution" in shown.stdout and "before anybody judged it" in shown.stdout
    assert not world.ecr.calls
    [note] = [note for note in load(Path(path)).notes if "replicates" in note]
    assert "infra.eu.replication: ECR replicates images.app to us as it is pushed, also what is denied" in note


def test_what_is_denied_is_there_too_where_ecr_replicates(world: World) -> None:
    """Which is why every native way says so: no promotion is asked, and none is needed."""
    chain = world.chain()
    assert chain.apply_infra("eu").ok
    made = push_image(chain.place("app"), [{"etc/a": "denied"}], tag="v9.0.0")
    there = chain.target_place("app", "us")
    assert there.registry.resolve(there.repository, "v9.0.0").digest == made.digest
    with pytest.raises(NotFound):
        there.registry.resolve(there.repository, "prod")
    with pytest.raises(PromotionDenied):
        chain.replicate(Release("app", "v9.0.0", made.digest), "us")
