"""A small supply chain on embedded registries: a source, two replicas, a DMZ and an air gap; images made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import dagster as dg
import pytest
import yaml

from dagster_project.definitions import build_definitions
from dagster_project.memory import Memory
from dagster_project.partitions import PARTITION_TAG, add_releases
from dagster_project.resources import prepare_home
from dagster_project.sensors import what_is_sought
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import Config, load
from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.patience import patient
from tests.ports import free_ports

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ROOT = Path(__file__).parent.parent.parent
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

SETTINGS = """
registries:
  source: {{kind: embedded, port: {0}}}
  eu-west-1: {{kind: embedded, port: {1}}}
  gcp: {{kind: embedded, port: {2}}}
  dmz: {{kind: embedded, port: {3}}}
  airgap: {{kind: embedded, port: {4}}}
images:
  app: {{registry: source, repository: team/app, promote: auto, targets: [eu-west-1, gcp]}}
  tool: {{registry: source, repository: team/tool, promote: auto, targets: [gcp]}}
  byhand: {{registry: source, repository: team/byhand, targets: [gcp]}}
targets:
  eu-west-1: {{registry: eu-west-1}}
  gcp: {{registry: gcp, prefix: replicas}}
policies:
  default:
    required: [sbom, vulnerabilities, signature]
signing: {{generate: true}}
advisories: {{source: advisories}}
mirrors:
  inside: {{via: dmz, to: airgap, images: [app]}}
  foreign: {{to: airgap, prefix: foreign, upstreams: [{{image: source/team/base}}]}}
retention:
  - {{registry: source, keep_newest: 2, keep_days: 0}}
sensors: {{running: true, interval: 1s, max_requests: 3}}
"""

SYNCS = "syncs:\n  bases: {source: source, repositories: ['bases/*'], targets: [eu-west-1, gcp], move_tags: false}\n"

HASTY_QUEUE = """
run_coordinator:
  module: dagster_project.people
  class: NamedByProxy
  config: {dequeue_interval_seconds: 1, user_header: X-Forwarded-User}
"""
"""Dagster's queue is looked at every 5 s unless told; a test waits for many runs."""


TICKS = """
query ($name: String!) { sensorOrError(sensorSelector: {repositoryLocationName: "registry_pipelines",
  repositoryName: "__repository__", sensorName: $name}) { ... on Sensor { sensorState {
  ticks(limit: 1, statuses: [SUCCESS, SKIPPED]) { timestamp } } } } }
"""


def advisory(package: str, identifier: str) -> dict[str, Any]:
    """A critical OSV record about every version of a package below 2.0."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    affected = {
        "package": {"ecosystem": "PyPI", "name": package, "purl": f"pkg:pypi/{package}"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
    }
    return {
        "schema_version": "1.6.0",
        "id": identifier,
        "modified": now,
        "published": now,
        "summary": f"{package} leaks",
        "affected": [affected],
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    }


def layer_of(packages: dict[str, str]) -> bytes:
    """A tar with what pip leaves behind: one dist-info folder for each package."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, version in sorted(packages.items()):
            folder = f"usr/lib/python3/dist-packages/{name}-{version}.dist-info"
            for file, text in {
                "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
                "RECORD": f"{name}-{version}.dist-info/METADATA,,\n",
                "INSTALLER": "pip\n",
            }.items():
                entry = tarfile.TarInfo(f"{folder}/{file}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
    return written.getvalue()


@dataclass(frozen=True)
class Made:
    """An image in memory."""

    manifest: bytes
    blobs: dict[str, bytes]
    """Content by media type: config and layer."""

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)


def make_image(packages: dict[str, str], note: str = "") -> Made:
    """A one-layer image; ``note`` makes another digest of the same packages."""
    tar = layer_of(packages)
    layer = gzip.compress(tar, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"note": note}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        }
    ).encode()
    blobs = {
        "application/vnd.oci.image.config.v1+json": config,
        "application/vnd.oci.image.layer.v1.tar+gzip": layer,
    }
    described = [
        {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}
        for kind, content in blobs.items()
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    return Made(json.dumps(manifest).encode(), blobs)


@pytest.fixture
def image() -> Callable[..., Made]:
    """Makes an image in memory."""
    return make_image


@pytest.fixture
def layout() -> Callable[[Path, Made, str], Path]:
    """Writes an image as an OCI layout folder, for skopeo."""

    def write(folder: Path, made: Made, tag: str) -> Path:
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for content in [made.manifest, *made.blobs.values()]:
            (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
        entry = {
            "mediaType": MANIFEST,
            "digest": str(made.digest),
            "size": len(made.manifest),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return folder

    return write


@dataclass
class Places:
    """A configuration whose registries are served, and its chain."""

    config: Config
    chain: Chain

    def push(self, image: str, tag: str, packages: dict[str, str], *, note: str = "") -> str:
        """Push an image to its source; its release's key."""
        release = self.release_at(image, tag, packages, note=note)
        return self.key(image, tag, release.digest)

    def release_at(self, image: str, tag: str, packages: dict[str, str], *, note: str = "") -> Release:
        """Push an image to its source; its release."""
        made = self.push_to("source", self.config.images[image].repository, tag, packages, note=note)
        return Release(image, tag, made.digest)

    def key(self, image: str, tag: str, digest: Digest) -> str:
        """The key that a release gets which is the only one of its kind; the state folder gets none here."""
        return f"{image}:{tag}@{digest.hex[:12]}"

    def release(self, key: str) -> Release:
        """The release of a key, whole or as the chain has given it."""
        return self.chain.release_of_key(key)

    def push_to(self, registry: str, repository: str, tag: str, packages: dict[str, str], *, note: str = "") -> Made:
        """Push an image anywhere."""
        made = make_image(packages, note)
        place = Place(self.chain.registry(registry), repository)
        for kind, content in made.blobs.items():
            push_blob(place, content, media_type=kind)
        place.registry.put_manifest(repository, ManifestBytes(made.manifest, MANIFEST, made.digest), tag=tag)
        return made

    def reached(self, key: str) -> set[str]:
        """Registries we serve, other than the source, where the digest of a release can be found."""
        release = self.release(key)
        served = [each.name for each in self.config.registries.values() if each.kind == "embedded"]
        return {name for name in served if name != "source" and self._holds(name, release.digest)}

    def _holds(self, name: str, digest: Digest) -> bool:
        registry = self.chain.registry(name)
        for repository in registry.repositories():
            try:
                registry.resolve(repository, digest)
            except NotFound:
                continue
            return True
        return False

    def channel(self, image: str) -> str | None:
        """Digest below the channel tag at the source; None when it was never moved."""
        try:
            return str(self.chain.registry("source").resolve(self.config.images[image].repository, "prod").digest)
        except NotFound:
            return None


@dataclass
class World(Places):
    """The same with the definitions and a Dagster instance, all in this process."""

    defs: dg.Definitions
    instance: dg.DagsterInstance

    def use(self, config: Config) -> None:
        """Go on with another configuration of the same registries."""
        self.config, self.chain = config, Chain(config)
        self.defs = build_definitions(config, lambda: self.chain)

    def known(self, image: str, tag: str, packages: dict[str, str], *, note: str = "") -> str:
        """Push an image and add its partition."""
        return self.add(image, tag, self.release_at(image, tag, packages, note=note).digest)

    def add(self, image: str, tag: str, digest: Digest) -> str:
        """Add the partition of a release."""
        release = Release(image, tag, digest)
        return add_releases(self.instance, self.chain, [release])[release]

    def run(self, key: str | None, *assets: str, job: str = "release") -> dg.ExecuteInProcessResult:
        """Run a job for a key, or only some of its assets."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=key,
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets] or None,
            raise_on_error=False,
            run_config=QUIET,
        )

    def tick(self, sensor: str, cursor: str | None, last_tick_s: float | None = None) -> dg.SensorResult:
        """One tick of a sensor; partitions are changed as the daemon does it."""
        resources = {"chain": self.chain}
        with dg.build_sensor_context(self.instance, cursor, definitions=self.defs, resources=resources) as context:
            # What the daemon gives its contexts; Dagster's maker of contexts for tests has no parameter for it.
            context._last_tick_completion_time = last_tick_s
            found = self.defs.resolve_sensor_def(sensor)(context)
        assert isinstance(found, dg.SensorResult)
        for change in found.dynamic_partitions_requests or []:
            if isinstance(change, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(change.partitions_def_name, list(change.partition_keys))
            else:
                for key in change.partition_keys:
                    self.instance.delete_dynamic_partition(change.partitions_def_name, key)
        return found

    def looked(self) -> str:
        """The cursor of a push sensor that has looked once, when all registries were empty."""
        return Memory(looked_for={name: what_is_sought(image) for name, image in self.config.images.items()}).write()

    def failed_run(self, key: str, status: dg.DagsterRunStatus = dg.DagsterRunStatus.FAILURE) -> None:
        """A run for a release that ended before there was a verdict."""
        job = self.defs.resolve_job_def("release")
        self.instance.create_run_for_job(job, status=status, tags={PARTITION_TAG: key})

    def steps(self, result: dg.ExecuteInProcessResult) -> dict[str, str]:
        """How each step that began ended."""
        ended = [event for event in result.all_events if event.is_step_success or event.is_step_failure]
        return {str(event.step_key): "ok" if event.is_step_success else "failed" for event in ended}


@dataclass
class Live(Places):
    """The same with Dagster's own processes: webserver, daemon, code server, a process for each run."""

    url: str
    log: Path

    def ask(self, query: str, *, user: str = "", **variables: Any) -> dict[str, Any]:
        """A GraphQL question to the webserver. user: whom a reverse proxy names with it; empty for past the proxy."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json", **({"X-Forwarded-User": user} if user else {})}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=patient(30)) as answer:
            found = json.load(answer)
        assert not found.get("errors"), found
        return dict(found["data"])

    def runs(self, key: str) -> list[str]:
        """States of a release's runs, the newest first."""
        query = """query ($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) { ... on Runs {
            results { status } } } }"""
        found = self.ask(query, tags=[{"key": "dagster/partition", "value": key}])
        return [run["status"] for run in found["runsOrError"]["results"]]

    def ticked(self, sensor: str, after: float = 0) -> bool:
        """Whether a sensor has ended a tick that began after a moment."""
        ticks = self.ask(TICKS, name=sensor)["sensorOrError"]["sensorState"]["ticks"]
        return bool(ticks) and float(ticks[0]["timestamp"]) > after

    def runs_of(self, asset: str) -> list[dict[str, str]]:
        """Runs that materialize assets of which one's key begins so: their ids and states, the newest first."""
        query = "{ runsOrError(limit: 20) { ... on Runs { results { runId status assetSelection { path } } } } }"
        found = self.ask(query)["runsOrError"]["results"]
        return [run for run in found if any(key["path"][0] == asset for key in run["assetSelection"] or ())]

    def until(self, what: str, condition: Callable[[], Any], *, seconds: float = patient(240)) -> Any:
        """Look again until the condition holds; what it gave. Fails with Dagster's log after so many seconds."""
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            if found := condition():
                return found
            sleep(0.5)
        pytest.fail(f"not within {seconds} s: {what}\n{self.log.read_text()[-6000:]}")


def write_settings(folder: Path) -> Path:
    """The configuration and its advisories: ``leaky`` below 2.0 is critical."""
    advisories = folder / "advisories"
    advisories.mkdir()
    (advisories / "PYSEC-2026-1.json").write_text(json.dumps(advisory("leaky", "PYSEC-2026-1")))
    path = folder / "registry-pipelines.yaml"
    path.write_text(SETTINGS.format(*free_ports(5)))
    return path


@pytest.fixture
def places_of() -> type[Places]:
    """Makes the handle on a configuration's registries."""
    return Places


@pytest.fixture
def syncs() -> str:
    """A section with one sync, for the end of a configuration file."""
    return SYNCS


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A configuration file with ports that are free."""
    return write_settings(tmp_path)


@contextmanager
def opened_world(settings: Path) -> Iterator[World]:
    config = load(settings)
    with ensure_registries(config), dg.DagsterInstance.ephemeral() as instance:
        chain = Chain(config)
        yield World(config, chain, build_definitions(config, lambda: chain), instance)


@pytest.fixture
def world(settings: Path) -> Iterator[World]:
    """Everything up and empty."""
    with opened_world(settings) as opened:
        yield opened


@pytest.fixture
def world_of() -> Callable[[Config, dg.DagsterInstance], World]:
    """The same on an instance and a configuration that a test made; its registries are served by the test."""

    def make(config: Config, instance: dg.DagsterInstance) -> World:
        chain = Chain(config)
        return World(config, chain, build_definitions(config, lambda: chain), instance)

    return make


@pytest.fixture(scope="module")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same for all tests of a file, which leave it as they found it."""
    with opened_world(write_settings(tmp_path_factory.mktemp("world"))) as opened:
        yield opened


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """``dagster dev -w workspace.yaml`` on free ports, with a home and a configuration of its own."""
    folder = tmp_path_factory.mktemp("live")
    path = write_settings(folder)
    raw = yaml.safe_load(path.read_text() + SYNCS)
    raw["images"]["byhand"]["build"] = {"version": "v9.0.0", "base": "source/team/base:v1", "python": "3.11"}
    raw["images"]["app"]["stream"] = {}
    started = {"registry": "source", "repository": "team/started", "promote": "auto", "targets": ["gcp"]}
    raw["images"]["started"] = started | {"stream": {"min_layer_size": "1KiB", "record": {"until": "exit"}}}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    config = load(path)
    (port,) = free_ports(1)
    home = prepare_home(config)
    with (home / "dagster.yaml").open("a") as dagster_settings:
        dagster_settings.write(HASTY_QUEUE)
    log = folder / "dagster.log"
    environment = {**os.environ, "HOME": str(folder), "DAGSTER_HOME": str(home), "REGISTRY_PIPELINES_CONFIG": str(path)}
    # Started from a script with `&`, pytest hands on an ignored SIGINT, and Dagster then ignores SIGTERM too.
    command = ["env", "--default-signal=INT,TERM,QUIT", sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml"]
    with (
        ensure_registries(config),
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            live = Live(config, Chain(config), f"http://127.0.0.1:{port}", log)
            live.until("the code location is loaded", lambda: process.poll() is None and is_loaded(live))
            live.until(
                "the registry was looked at once: what is pushed from now on is new", lambda: live.ticked("push_source")
            )
            yield live
        finally:
            stop(process)


def is_loaded(live: Live) -> bool:
    """Whether the webserver answers and knows our job."""
    query = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
    try:
        entries = live.ask(query)["workspaceOrError"]["locationEntries"]
    except OSError:
        return False
    return [(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries] == ["RepositoryLocation"]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End Dagster and everything it started: after a kill the webserver and the daemon would live on."""
    process.terminate()
    try:
        process.wait(patient(20))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def chromium(peer: Callable[[str], str]) -> str:
    """The browser's path."""
    return os.environ.get("CHROMIUM") or peer("chromium")
