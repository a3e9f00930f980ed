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


def run(chain: Chain) -> dg.ExecuteInProcessResult:
    defs = build_definitions(chain.config, lambda: chain)
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("load_bundles")
        return job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)


def look(chain: Chain, cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
    defs = build_definitions(chain.config, lambda: chain)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, definitions=defs, cursor=cursor, resources={"chain": chain}
        )
        found = defs.resolve_sensor_def("inbox").evaluate_tick(context)
    return list(found.run_requests or ()), found.cursor


def test_what_lies_in_the_inbox_is_loaded_once_it_is_still_and_confirmed(
    chain: Chain, make_key: MakeKey, tmp_path: Path
) -> None:
    near, line, inbox = LayoutRegistry(tmp_path / "near"), Line(make_key("near").signer), tmp_path / "inbox"
    requests, cursor = look(chain, None)
    assert not requests  # no medium is in
    line.write(inbox, publish(near, 1), part_size=8_000)
    requests, cursor = look(chain, cursor)
    assert not requests  # it may still grow
    requests, cursor = look(chain, cursor)
    assert [request.asset_selection for request in requests] == [[dg.AssetKey(["loaded", "upstreams"])]]
    assert not look(chain, cursor)[0]  # once
    result = run(chain)
    assert result.success and whole(LayoutRegistry(tmp_path / "private")) == whole(near)
    receipt = read_receipt_file(inbox / "upstreams-receipt-0001.json", verifier=make_key("far").verifier)
    assert [each.number for each in receipt.receipt.loaded] == [1]
    [told] = result.asset_materializations_for_node("loaded__upstreams")
    assert told.metadata["bundles_loaded"].value == 1
    for _ in range(2):
        requests, cursor = look(chain, cursor)
        assert not requests


def test_one_that_is_not_whole_hinders_no_other_and_is_tried_again_when_a_part_comes(
    chain: Chain, make_key: MakeKey, tmp_path: Path
) -> None:
    near, line, inbox = LayoutRegistry(tmp_path / "near"), Line(make_key("near").signer), tmp_path / "inbox"
    first = line.write(inbox, publish(near, 1), part_size=8_000)
    late = inbox / first.parts[1].name
    content = late.read_bytes()
    late.unlink()
    line.write(inbox, publish(near, 2), part_size=8_000)
    cursor = None
    for _ in range(2):
        requests, cursor = look(chain, cursor)
    assert len(requests) == 1
    result = run(chain)
    assert not result.success  # the run says what is lacking
    assert chain.load_inbox("upstreams").reasons[0].startswith("upstreams-0001: 1 of ")
    assert (
        LayoutRegistry(tmp_path / "private").resolve("library/app", "latest").digest
        == near.resolve("library/app", "latest").digest
    )
    late.write_bytes(content)
    for _ in range(3):
        requests, cursor = look(chain, cursor)
        if requests:
            break
    assert len(requests) == 1 and run(chain).success
    assert whole(LayoutRegistry(tmp_path / "private")) == whole(near)
