"""Where nodes send what starts read: a place of its own, which nobody copies and nothing else fills."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.config import load
from tests.config.files import SMALL, problems, written

INBOX = "node: {record: %s}\n"
MIRROR = "mirrors: {m: {via: there, to: here, upstreams: [%s]}}\n"
SYNC = "syncs: {s: {source: here, targets: [eu], repositories: ['*']}}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (INBOX % "here/ml/forecaster", "is the repository of the image forecaster"),
        (INBOX % "127.0.0.1:5501/ml/forecaster", "is the repository of the image forecaster"),
        (INBOX % "there/replica/ml/forecaster", "`images.forecaster.targets` brings images there"),
        (INBOX % "reg.example:5000/replica/ml/forecaster", "`images.forecaster.targets` brings images there"),
        (INBOX % "there/inbox" + MIRROR % "{image: 'reg.example:5000/inbox'}", "the mirror m copies it"),
        (INBOX % "here/inbox" + MIRROR % "{image: there/inbox, repository: inbox}", "`mirrors.m.upstreams[0]` brings"),
        (INBOX % "there/replica/x" + SYNC, "`syncs.s.targets[0]` brings images there"),
        (INBOX % "inbox", "write registry/repository"),
        (INBOX % "here/inbox:latest", "write registry/repository"),
        (INBOX % "{inbox: here/inbox, per_hour: 0}", "node.record.per_hour"),
        (INBOX % "{inbox: here/inbox, max_bytes: 1KiB}", "node.record.max_bytes: 1KiB is not between"),
        (INBOX % "{inbox: here/inbox, images: []}", "node.record.images: names none"),
        (INBOX % "{inbox: here/inbox, timeout: 30s}", "node.record.timeout: 30s are not longer"),
    ],
)
def test_an_inbox_is_a_place_of_its_own(tmp_path: Path, text: str, said: str) -> None:
    told = problems(tmp_path, SMALL + text)
    assert any("node.record" in one and said in one for one in told), told


def test_all_that_is_wrong_with_it_is_said_at_once(tmp_path: Path) -> None:
    told = problems(tmp_path, SMALL + INBOX % "{inbox: here/ml/forecaster, max_bytes: 9GiB, timeout: 1s}")
    assert len(told) == 3 and all("node.record." in each for each in told)


def test_a_sync_of_everything_leaves_the_inbox_where_it_is(tmp_path: Path) -> None:
    config = load(written(tmp_path, SMALL + INBOX % "here/inbox" + SYNC), {"TOKEN": "x"})
    assert config.node.record is not None and config.node.record.per_hour == 4
    assert config.never_synced(config.syncs["s"])["inbox"] == "recordings of nodes are never copied"
    assert config.inbox_at == ("here", "inbox")
    other = load(written(tmp_path, SMALL + INBOX % "elsewhere.example/inbox" + SYNC), {"TOKEN": "x"})
    assert other.inbox_at == ("elsewhere.example", "inbox")
    assert "inbox" not in other.never_synced(other.syncs["s"])
    assert load(written(tmp_path, SMALL), {"TOKEN": "x"}).inbox_at is None
