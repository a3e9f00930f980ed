"""The near side of an air gap in Dagster: the next bundle is made of news alone, by the receipts that lie there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.dagster_project.conftest import QUIET
from tests.evidence.conftest import make_key
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import far_layout, publish
from tests.scan.images import push_image

__all__ = ["make_key"]

MakeKey = Callable[[str], Key]
CONFIG = """
state: {here}/state
registries:
  dmz: {{kind: layout, root: {here}/dmz}}
  internet: {{kind: layout, root: {here}/internet}}
  private: {{kind: layout, root: {here}/unreachable}}
mirrors:
  upstreams:
    via: dmz
    to: private
    across: bundle
    upstreams: [{{image: internet/library/app}}, {{image: internet/library/tool}}]
    bundle: {{receipts: [{far}], folder: {here}/outbox}}
signing: {{promoter: {{key: {near}}}}}
"""


def test_a_bundle_is_made_of_news_alone_and_builds_on_the_receipt_that_lies_there(
    make_key: MakeKey, tmp_path: Path
) -> None:
    text = CONFIG.format(here=tmp_path, far=make_key("far").public, near=make_key("near").path)
    (tmp_path / "near.yaml").write_text(text)
    chain = Chain(load(tmp_path / "near.yaml"))
    dmz, outbox = LayoutRegistry(tmp_path / "dmz"), tmp_path / "outbox"
    publish(dmz, 1)
    defs = build_definitions(chain.config, lambda: chain)
    assert defs.resolve_schedule_def("nightly_bundle_schedule").cron_schedule == "0 3 * * *"

    def run() -> dict[str, Any]:
        with dg.DagsterInstance.ephemeral() as instance:
            job = defs.resolve_job_def("nightly_bundle")
            ran = job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)
            assert ran.success
            [event] = ran.get_asset_materialization_events()
            return {name: value.value for name, value in event.materialization.metadata.items()}

    assert run()["number"] == 1 and (outbox / "upstreams-0001.bundle.json").exists()
    assert "unchanged" in run()["action"] and not (outbox / "upstreams-0002.bundle.json").exists()
    far = far_layout(tmp_path / "far")
    far.load(outbox)
    (outbox / "upstreams-receipt-0001.json").write_bytes(far.receipt(make_key("far").signer).raw)
    push_image(Place(dmz, "library/tool"), [{"tool/main": "new"}], tag="2")
    made = run()
    assert made["number"] == 2 and made["blobs_confirmed"] > 0 and not made["full"]
    assert "unchanged" in run()["action"]
    for path in (tmp_path / "dmz" / "library" / "app").rglob("index.json"):
        path.unlink()
    result = chain.bundle_in_folder("upstreams")
    assert not result.ok and result.exit_code == 6 and "library/app" in result.reasons[0]
