"""The far side of an air gap in Dagster: what lies in the inbox is loaded, and a receipt lies beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.mirror.bundle.receipt import read_receipt_file
from registry_pipelines.registry.layout import LayoutRegistry
from tests.dagster_project.conftest import QUIET
from tests.evidence.conftest import make_key
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import publish, whole
from tests.mirror.bundle.written import Line

__all__ = ["make_key"]

MakeKey = Callable[[str], Key]
CONFIG = """
state: {here}/state
registries:
  private: {{kind: layout, root: {here}/private}}
mirrors:
  upstreams: {{to: private, across: bundle, bundle: {{signers: [{near}], inbox: {here}/inbox}}}}
signing: {{promoter: {{key: {far}}}}}
"""


@pytest.fixture
def chain(tmp_path: Path, make_key: MakeKey) -> Chain:
    text = CONFIG.format(here=tmp_path, near=make_key("near").public, far=make_key("far").path)
    (tmp_path / "far.yaml").write_text(text)
    return Chain(load(tmp_path / "far.yaml"))


class Side:
    """The far side's code location."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.defs = build_definitions(chain.config, lambda: chain)

    def run(self) -> dg.ExecuteInProcessResult:
        with dg.DagsterInstance.ephemeral() as instance:
            job = self.defs.resolve_job_def("load_bundles")
            return job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)

    def look(self, cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(
                instance=instance, definitions=self.defs, cursor=cursor, resources={"chain": self.chain}
            )
            found = self.defs.resolve_sensor_def("inbox").evaluate_tick(context)
        return list(found.run_requests or ()), found.cursor


@pytest.fixture
def side(chain: Chain) -> Side:
    return Side(chain)


def test_what_lies_in_the_inbox_is_loaded_once_it_is_still_and_confirmed(
    side: Side, make_key: MakeKey, tmp_path: Path
) -> None:
    near, line, inbox = LayoutRegistry(tmp_path / "near"), Line(make_key("near").signer), tmp_path / "inbox"
    requests, cursor = side.look(None)
    assert not requests  # no medium is in
    line.write(inbox, publish(near, 1), part_size=8_000)
    requests, cursor = side.look(cursor)
    assert not requests  # it may still grow
    requests, cursor = side.look(cursor)
    assert [request.asset_selection for request in requests] == [[dg.AssetKey(["loaded", "upstreams"])]]
    assert not side.look(cursor)[0]  # once
    result = side.run()
    assert result.success and whole(LayoutRegistry(tmp_path / "private")) == whole(near)
    receipt = read_receipt_file(inbox / "upstreams-receipt-0001.json", verifier=make_key("far").verifier)
    assert [each.number for each in receipt.receipt.loaded] == [1]
    [told] = result.asset_materializations_for_node("loaded__upstreams")
    assert told.metadata["bundles_loaded"].value == 1
    for _ in range(2):
        requests, cursor = side.look(cursor)
        assert not requests


def test_one_that_is_not_whole_hinders_no_other_and_is_tried_again_when_a_part_comes(
    side: Side, make_key: MakeKey, tmp_path: Path
) -> None:
    near, line, inbox = LayoutRegistry(tmp_path / "near"), Line(make_key("near").signer), tmp_path / "inbox"
    first = line.write(inbox, publish(near, 1), part_size=8_000)
    late = inbox / first.parts[1].name
    content = late.read_bytes()
    late.unlink()
    line.write(inbox, publish(near, 2), part_size=8_000)
    cursor = None
    for _ in range(2):
        requests, cursor = side.look(cursor)
    assert len(requests) == 1
    result = side.run()
    assert not result.success  # the run says what is lacking
    assert side.chain.load_inbox("upstreams").reasons[0].startswith("upstreams-0001: 1 of ")
    assert (
        LayoutRegistry(tmp_path / "private").resolve("library/app", "latest").digest
        == near.resolve("library/app", "latest").digest
    )
    late.write_bytes(content)
    for _ in range(3):
        requests, cursor = side.look(cursor)
        if requests:
            break
    assert len(requests) == 1 and side.run().success
    assert whole(LayoutRegistry(tmp_path / "private")) == whole(near)
