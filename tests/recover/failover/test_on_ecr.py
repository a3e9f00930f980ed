"""Two regions of ECR, by our double of its API and its doors: the account comes from AWS, and a log-in that AWS does
not give is no answer."""

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
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from tests.answers import answered
from tests.doubles.aws.ecr import EcrDouble
from tests.doubles.aws.front import ACCOUNT
from tests.needs import needed_module
from tests.scan.images import push_image

CONFIG = """
registries:
  eu: {{kind: ecr, account: "{account}", region: eu-west-1, endpoint: "{url}", reachable_as: "{eu}"}}
  us: {{kind: ecr, account: "{account}", region: us-east-1, endpoint: "{api}", reachable_as: "{us}"}}
images: {{app: {{registry: eu, repository: ml/app, targets: [us]}}}}
targets: {{us: {{registry: us}}}}
signing: {{generate: true}}
failover:
  prod:
    registries: [eu, us]
    health: {{timeout: {timeout}, failures: 1}}
    dns: {{name: images.example.com, provider: route53, zone: Z1}}
"""


@pytest.fixture
def ecr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What stands in the configuration."""
    needed_module("boto3", "aws")
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(tmp_path / name)) for name in ("eu", "us")]
        double = EcrDouble(servers[0].address)
        us = double.add(ACCOUNT, "us-east-1", servers[1].address)
        stack.enter_context(double)
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield {
            "account": ACCOUNT, "url": double.url, "api": double.url, "eu": double.proxy_address, "us": us,
            "timeout": "50s",
        }  # fmt: skip


def look(folder: Path, values: dict[str, str], code: int, **more: str) -> Any:
    path = folder / "registry-pipelines.yaml"
    path.write_text(CONFIG.format(**{**values, **more}))
    ran = CliRunner().invoke(main, ["recover", "failover", "--dry-run", "--config", str(path), "--json"])
    assert ran.exit_code == code, ran.output
    return answered(ran.stdout)


def test_a_region_that_gives_no_log_in_is_down(ecr: dict[str, str], tmp_path: Path) -> None:
    told = look(tmp_path, ecr, 3)
    assert told["facts"]["down"] == 0 and "no image was looked for" in told["reasons"][0]
    chain = Chain(load(tmp_path / "registry-pipelines.yaml"))
    made = push_image(chain.place("app"), [{"a": "b"}], tag="prod")
    told = look(tmp_path, ecr, 3)
    assert told["facts"]["without_second_place"] == 1 and "only eu has it" in told["reasons"][0]
    copy_closure(chain.place("app"), "prod", [Place(chain.registry("us"), "ml/app")])
    told = look(tmp_path, ecr, 0)
    assert told["facts"]["without_second_place"] == 0 and told["rows"][0]["digest"] == made.digest
    told = look(tmp_path, ecr, 3, api="http://127.0.0.1:9", timeout="1s")
    assert told["facts"]["order"] == "eu, us"
    [state] = [each for each in told["tables"]["health"] if each["registry"] == "us"]
    assert state["state"] == "down" and state["why"]
    notes = " ".join(told["notes"])
    assert "wants an account, and Route 53 has none" in notes
