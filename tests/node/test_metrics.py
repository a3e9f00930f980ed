"""The agent's numbers, read by Prometheus' own parser."""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, PortTaken
from registry_pipelines.node.counts import COUNTERS, Counted, Counts
from registry_pipelines.node.metrics import exposition, metrics_of, metrics_server
from registry_pipelines.node.serving import served
from registry_pipelines.node.status import DrainStatus, ImageStatus, NodeStatus, Reporter
from registry_pipelines.report.metrics.prometheus import parse_address
from registry_pipelines.stream.lazy.notes import MountNote
from tests.needs import missing, needed_module
from tests.patience import patient, until

PREFIX = "registry_pipelines_node_"


def read(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, as Prometheus' own reader has them."""
    parser = needed_module("prometheus_client.parser", "dev")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation and family.type in ("gauge", "counter")
        for sample in family.samples:
            found.setdefault(sample.name.removeprefix(PREFIX), []).append((sample.labels, sample.value))
    return found


def note(**more: Any) -> MountNote:
    return MountNote(
        image="app", digest="sha256:1", folder="/f", process=1, since="2026-01-01T00:00:00Z", lazy=True, **more
    )


def status(**more: Any) -> NodeStatus:
    return NodeStatus(process=7, started="1970-01-01T00:01:00Z", version="1", socket="/s", root="/r", **more)


def test_every_number_of_a_status_is_told() -> None:
    image = ImageStatus("app@sha256:1", 2, ["c1", "c2"], [note(waiting=3, size_bytes=10, filled_bytes=4)])
    other = ImageStatus("other@sha256:2", 1, [], [note(carrier="fanotify", waiting=1, size_bytes=5, filled_bytes=5)])
    counted = [Counted("fetched_bytes", 5e12, {"way": "pack"}), Counted("stalled_seconds", 0.25, {})]
    found = read(
        exposition(status(snapshots=9, containers=4, images=[image, other], counters=counted, drain=DrainStatus("")))
    )
    assert found == {
        "info": [({"version": "1"}, 1)],
        "start_time_seconds": [({}, 60)],
        "snapshots": [({}, 9)],
        "containers": [({}, 4)],
        "lazy_images": [({}, 2)],
        "lazy_containers": [({}, 2)],
        "mounted": [({"carrier": "fanotify"}, 1), ({"carrier": "fuse"}, 1)],
        "waiting_readers": [({}, 4)],
        "mounted_bytes": [({}, 15)],
        "filled_bytes": [({}, 9)],
        "draining": [({}, 1)],
        "fetched_bytes_total": [({"way": "pack"}, 5e12)],
        "stalled_seconds_total": [({}, 0.25)],
    }


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=20), max_size=3), st.floats(0, 1e15)
)
def test_labels_come_back_whatever_they_hold(labels: dict[str, str], value: float) -> None:
    told = exposition(status(counters=[Counted("fallbacks", value, labels)]))
    assert read(told)["fallbacks_total"] == [(labels, value)]


def test_every_counter_has_a_name_that_prometheus_takes() -> None:
    found = read(exposition(status(counters=[Counted(name, 1, {}) for name in COUNTERS])))
    assert {f"{name}_total" for name in COUNTERS} <= set(found)


@pytest.mark.parametrize("text", ["", "9464", ":9464", "host:", "host:x", "host:70000", "host:-1", "host:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no address"):
        parse_address(text)


def test_addresses_of_both_kinds() -> None:
    assert parse_address("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert parse_address("[::1]:0") == ("::1", 0)


@contextmanager
def agent() -> Iterator[tuple[Path, Reporter, Counts]]:
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("snapshots are mounted by root")
    counts = Counts()
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        folder = Path(name)
        with served(folder / "s", folder / "node", log=print, counts=counts) as reporter:
            yield folder, reporter, counts


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=patient(10)) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


def refused(url: str, data: bytes | None = None) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(url, data=data, timeout=patient(10))
    with error.value:
        return error.value.code


def test_an_agent_is_asked_over_http_and_writes_a_file() -> None:
    with agent() as (folder, reporter, counts):
        file = folder / "agent.prom"
        with metrics_of(reporter, address="127.0.0.1:0", file=file) as server:
            assert server is not None and read(file.read_text())["containers"] == [({}, 0)]
            counts.count("packs")
            assert read(get(f"{server.url}/metrics"))["packs_total"] == [({}, 1)]
            until(lambda: "packs_total" in read(file.read_text()))
            assert refused(f"{server.url}/") == 404
            assert refused(f"{server.url}/metrics", b"x") == 405
            with pytest.raises(PortTaken), metrics_server(server.address, reporter.now):
                pass
        assert not file.exists()
