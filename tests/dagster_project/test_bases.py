"""Bases in Dagster: an asset each, its check, and the sensor that asks for rebuilds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.assets.bases import REBUILT, key_of
from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import Fleet, start
from tests.chain.test_bases import DEBIAN, configured, push_app, push_base, python
from tests.dagster_project.conftest import QUIET
from tests.scan.images import push_image

PYTHON = [key_of("python")]
BUILT = "  built: {registry: us, repository: team/built, build: {version: v2, requirements: [x]}}\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)


def definitions(chain: Chain) -> dg.Definitions:
    return build_definitions(chain.config, lambda: chain)


def look(chain: Chain, instance: dg.DagsterInstance, cursor: str | None, sensor: str = "new_bases") -> dg.SensorResult:
    defs = definitions(chain)
    context = dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor, resources={"chain": chain})
    found = defs.resolve_sensor_def(sensor).evaluate_tick(context)
    return dg.SensorResult(run_requests=found.run_requests or [], cursor=found.cursor)


def asked(found: dg.SensorResult) -> list[list[dg.AssetKey] | str | None]:
    """What each run is about: assets, or a partition."""
    return [
        list(request.asset_selection) if request.asset_selection else request.partition_key
        for request in found.run_requests or ()
    ]


def test_a_base_is_an_asset_whose_check_names_what_is_to_be_built_again(fleet: Fleet) -> None:
    push_base(fleet, "3.11.1")
    chain = configured(fleet)
    push_app(fleet, "v1", DEBIAN, python("3.11.1"))
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions(chain).resolve_job_def("bases")
        first = job.execute_in_process(instance=instance, run_config=QUIET)
        [green] = first.get_asset_check_evaluations()
        new = push_base(fleet, "3.11.2")
        second = job.execute_in_process(instance=instance, run_config=QUIET)
        [yellow] = second.get_asset_check_evaluations()
        latest = instance.get_latest_materialization_event(key_of("python"))
        assert latest and latest.asset_materialization
        made = latest.asset_materialization
    assert green.passed and green.check_name == REBUILT
    assert not yellow.passed and yellow.severity == dg.AssetCheckSeverity.WARN
    assert "Build app again" in (yellow.description or "")
    assert made.tags and made.tags["dagster/data_version"] == new.digest
    assert made.metadata["images_older"].value == 1
    assert all(isinstance(made.metadata[name], dg.TableMetadataValue) for name in ("rows", "bases", "savings"))


def test_the_sensor_asks_when_a_base_is_made_anew_and_for_builds_that_are_prepared(fleet: Fleet) -> None:
    push_base(fleet, "3.11.1")
    configured(fleet)
    chain = fleet.reload(("images:\n", f"images:\n{BUILT}"))
    place = Place(fleet.chain.place("app").registry, "team/built")
    push_image(place, [DEBIAN, python("3.11.1"), {"app": "1"}], tag="v1")
    chain.bases()
    with dg.DagsterInstance.ephemeral() as instance:
        first, prepared = look(chain, instance, None), look(chain, instance, None, "rebuilds")
        assert asked(first) == asked(prepared) == []  # it was there before
        assert asked(look(chain, instance, first.cursor)) == []
        push_base(fleet, "3.11.2")
        second = look(chain, instance, first.cursor)
        assert asked(second) == [PYTHON]
        assert asked(look(chain, instance, prepared.cursor, "rebuilds")) == ["built"]
        assert asked(look(chain, instance, second.cursor)) == []
        push_base(fleet, "3.11.1")  # back again: news as well, under another run key
        third = look(chain, instance, second.cursor)
        keys = {request.run_key for request in [*(second.run_requests or ()), *(third.run_requests or ())]}
        assert asked(third) == [PYTHON] and len(keys) == 2
        push_image(place, [DEBIAN, {"app": "2"}], tag="v2")  # a version that is there never changes
        push_base(fleet, "3.11.3")
        assert asked(look(chain, instance, prepared.cursor, "rebuilds")) == []


def test_a_base_that_cannot_be_looked_at_hides_no_other(fleet: Fleet) -> None:
    push_base(fleet, "3.11.1")
    configured(fleet)
    chain = fleet.reload(
        ("bases: {", "bases: {away: {registry: nowhere, repository: x, tag: '1'}, "),
        ("registries:\n", "registries:\n  nowhere: {kind: distribution, host: 127.0.0.1:1}\n"),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        first = look(chain, instance, None)
        push_base(fleet, "3.11.2")
        assert asked(look(chain, instance, first.cursor)) == [PYTHON]
