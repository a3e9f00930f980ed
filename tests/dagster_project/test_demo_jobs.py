"""The demonstration as the command line starts it: a process of its own, an events file, nothing printed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.data_version import extract_data_version_from_entry

from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load

if TYPE_CHECKING:
    from conftest import Places

ROOT = Path(__file__).parent.parent.parent


def write_wheel(folder: Path, name: str) -> None:
    """A wheel with one module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": b"VALUE = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        record = ""
        for path, content in files.items():
            archive.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(content)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")


def with_builds(settings: Path) -> None:
    """Add build sections: ``app`` is fine, ``tool`` has a wheel with a critical advisory."""
    wheels = settings.parent / "wheels"
    wheels.mkdir()
    raw = yaml.safe_load(settings.read_text())
    for image, package in (("app", "calm"), ("tool", "leaky")):
        write_wheel(wheels, package)
        raw["images"][image]["build"] = {
            "version": "v1.0.0",
            "base": "source/team/base:v1",
            "python": "3.11",
            "libc": "none",
            "requirements": [f"{package}==1.0"],
            "wheels": "wheels",
            "platforms": ["linux/amd64"],
        }
    settings.write_text(yaml.safe_dump(raw))


@pytest.fixture
def ready(settings: Path, places_of: Any) -> Iterator[Places]:
    """Registries up, with the base that both images are built on."""
    with_builds(settings)
    config = load(settings)
    with ensure_registries(config):
        found = places_of(config, Chain(config))
        found.push_to("source", "team/base", "v1", {})
        yield found


def demonstrate(settings: Path) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Run the command; what it wrote to the events file."""
    events = settings.parent / "events.jsonl"
    command = [sys.executable, "-m", "dagster_project.demo", "--config", str(settings), "--events", str(events)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    lines = events.read_text().splitlines() if events.exists() else []
    return done, [json.loads(line) for line in lines]


def by_stage(events: list[dict[str, Any]], image: str) -> dict[str, dict[str, Any]]:
    """The events of an image's release."""
    return {event["stage"]: event for event in events if event["release"].startswith(f"{image}:")}


def test_the_first_image_ships_the_second_is_denied_and_a_second_run_changes_nothing(
    ready: Places, settings: Path
) -> None:
    done, events = demonstrate(settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shipped, denied = by_stage(events, "app"), by_stage(events, "tool")
    assert {event["status"] for event in shipped.values()} == {"ok"}
    assert list(shipped)[:9] == [
        "build",
        "provenance",
        "sbom",
        "advice",
        "vulnerabilities",
        "sign",
        "verify",
        "judge",
        "promote",
    ]
    assert {"replicate:eu-west-1", "replicate:gcp", "mirror:inside"} < set(shipped)
    assert ready.reached(shipped["build"]["release"]) == {"eu-west-1", "gcp", "dmz", "airgap"}
    states = {stage: event["status"] for stage, event in denied.items()}
    assert states["judge"] == states["vulnerabilities"] == "denied"
    assert (states["promote"], states["replicate:gcp"]) == ("denied", "skipped")
    assert "leaky" in " ".join(denied["judge"]["reasons"])
    assert ready.reached(denied["build"]["release"]) == set()
    assert {event["stage"] for event in events if not event["release"]} == {"mirror:foreign", "retention:source"}

    again, events = demonstrate(settings)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert not [event["stage"] for event in events if event["changed"] or event["bytes_moved"]]
    assert {event["status"] for event in by_stage(events, "app").values()} == {"ok"}
    assert by_stage(events, "tool")["judge"]["status"] == "denied"

    with dg.DagsterInstance.from_config(str(ready.config.state / "dagster")) as instance:
        assert sorted(run.job_name for run in instance.get_runs()) == sorted(
            ["build", "build", "release", "release", "nightly_mirror_foreign", "retention"] * 2
        )
        assert len(instance.get_dynamic_partitions("release")) == 2
        reported = instance.fetch_materializations(dg.AssetKey("image"), limit=2).records
        versions = {each.partition_key: extract_data_version_from_entry(each.event_log_entry) for each in reported}
        digests = {name: shipping["build"]["digest"] for name, shipping in (("app", shipped), ("tool", denied))}
        assert versions == {name: dg.DataVersion(digest) for name, digest in digests.items()}
        assert {"release", "bytes_moved"} < reported[0].asset_materialization.metadata.keys()


def test_a_build_that_fails_is_told_and_does_not_hold_the_other_image(ready: Places, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    raw["images"]["tool"]["build"]["base"] = "source/team/missing:v1"
    settings.write_text(yaml.safe_dump(raw))
    done, events = demonstrate(settings)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "build tool" in done.stderr
    assert "team/missing" in done.stderr
    (failed,) = [event for event in events if event["status"] == "failed"]
    assert (failed["stage"], failed["subject"], failed["ok"]) == ("build", "tool", False)
    assert by_stage(events, "app")["promote"]["status"] == "ok"


def test_a_configuration_with_mistakes_ends_with_its_exit_code(settings: Path) -> None:
    settings.write_text("registries: 7\n")
    done, events = demonstrate(settings)
    assert (done.returncode, events) == (8, [])
    assert "registries" in done.stderr
    assert "Traceback" not in done.stderr
