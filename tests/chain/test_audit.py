"""``report audit``: who did what at real registries, and what nothing signed explains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from registry_pipelines.registry.tags import put_tag
from tests.chain.fleet import Fleet, write_config
from tests.cli.on_fleet import answer

AUDIT = """\
report:
  teams: {apps: ['team/*']}
  audit:
    sources:
      own: {kind: access-log, registry: us}
"""


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Fleet]:
    """The fleet, whose source writes an access log."""
    path = write_config(tmp_path)
    text = path.read_text().replace("us: {kind: embedded,", "us: {kind: embedded, access_log: logs/us.jsonl,", 1)
    path.write_text(text + AUDIT)
    config = load(path, {})
    with ExitStack() as stack:
        stack.enter_context(ensure_registries(config))
        yield Fleet(path, config, Chain(config))


def alerts(result: dict) -> list[tuple[str, str, str]]:  # type: ignore[type-arg]
    return [(each["kind"], each["repository"], each["tag"]) for each in result["tables"]["alerts"]]


def test_a_promotion_is_no_alert_and_a_tag_that_somebody_moves_is_one(audited: Fleet) -> None:
    good, other = audited.release("v1.0.0"), audited.release("v1.1.0")
    assert audited.judged(good) and audited.judged(other)
    audited.chain.promote(good)
    quiet = answer(audited, "report", "audit")
    assert quiet["ok"] and quiet["facts"]["push"] > 4 and quiet["facts"]["alerts"] == 0
    assert any("pushers" in note for note in quiet["notes"])
    place = audited.chain.place("app")
    put_tag(place, place.registry.get_manifest(place.repository, other.digest), "prod")
    told = answer(audited, "report", "audit", code=3)
    assert alerts(told) == [("channel-move", "team/app", "prod")]
    [alert] = told["tables"]["alerts"]
    assert alert["digest"] == other.digest and "without a promotion" in alert["said"] and "promote app" in alert["do"]
    again = answer(audited, "report", "audit", "--kept", code=3)
    assert again["facts"]["new"] == 0 and again["tables"]["alerts"] == [alert]
