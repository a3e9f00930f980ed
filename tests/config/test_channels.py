"""Channels in order: what each has of its image, and what is said twice or of none."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
import yaml

from registry_pipelines.config import load
from registry_pipelines.config.schema import schema
from tests.config.files import problems, written

HEAD = """\
registries:
  hub: {kind: embedded, port: 5901}
  eu: {kind: embedded, port: 5902}
  us: {kind: embedded, port: 5903}
targets:
  eu: {registry: eu}
  us: {registry: us}
policies:
  strict: {}
images:
  app:
    registry: hub
    repository: team/app
    targets: [eu]
"""


def test_a_channel_has_of_its_image_what_it_does_not_say(tmp_path: Path) -> None:
    text = f"""{HEAD}    channels:
      - staging
      - {{name: canary, targets: [], promote: auto}}
      - {{name: prod, policy: strict, targets: [eu, us], after: 24h, approvals: [qa]}}
"""
    image = load(written(tmp_path, text)).images["app"]
    staging, canary, prod = image.channels
    assert (staging.name, staging.policy, staging.targets, staging.promote) == ("staging", "default", ("eu",), "manual")
    assert (canary.targets, canary.promote, canary.after, canary.approvals) == ((), "auto", None, ())
    assert (prod.policy, prod.targets, prod.after) == ("strict", ("eu", "us"), timedelta(hours=24))
    assert prod.approvals == ("qa",)
    assert (image.channel, image.targets) == ("prod", ("eu", "us")), "the last one, and the targets of all"
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))


def test_one_channel_is_written_as_before(tmp_path: Path) -> None:
    [only] = load(written(tmp_path, f"{HEAD}    channel: live\n    policy: strict\n")).images["app"].channels
    assert (only.name, only.policy, only.targets, only.after) == ("live", "strict", ("eu",), None)
    [only] = load(written(tmp_path, HEAD)).images["app"].channels
    assert only.name == "prod"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("    channel: prod\n    channels: [staging, prod]\n", "`channels` is written, too"),
        ("    channels: []\n", "names no channel"),
        ("    channels: [staging, v1.2]\n", "is a version tag; those never move"),
        ("    channels: [staging, staging]\n", "`staging` is a channel of app already"),
        ("    channels: [{name: staging, after: 1h}, prod]\n", "there is no channel before the first"),
        ("    channels: [{name: prod, targets: [us]}]\n", "every channel has `targets` of its own"),
        ("    channels: [{policy: strict}]\n", "`name` is missing"),
        ("    channels: [{name: prod, policy: strickt}]\n", "unknown policy `strickt`; did you mean `strict`?"),
        ("    channels: [{name: prod, hours: 3}]\n", "unknown field `hours`"),
        ("    channels: [{name: prod, approvals: [Q A]}]\n", "is not a name"),
        ("    channels: prod\n", "expected a list"),
    ],
)
def test_channels_that_do_not_fit_are_refused(tmp_path: Path, lines: str, said: str) -> None:
    found = problems(tmp_path, HEAD + lines)
    assert any(said in each for each in found), found
