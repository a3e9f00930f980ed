"""A configuration with many images, its releases, and what became of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.cluster.machines import Cluster
from deploy.cluster.needs import HOST
from deploy.cluster.runs import Run, runs
from registry_pipelines.chain import Chain
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.config import Config, load
from registry_pipelines.config.machine import SERVED_BY, STATE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.standing import records
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import write_advisory
from tests.cluster.serving import Upload, uploads
from tests.patience import patient
from tests.ports import free_ports
from tests.scan.images import push_image

TOP = Path(__file__).parents[2]
SETTINGS = """\
registries:
  source: {{kind: embedded, port: {0}}}
  eu: {{kind: embedded, port: {1}}}
  gcp: {{kind: embedded, port: {2}}}
targets:
  eu: {{registry: eu}}
  gcp: {{registry: gcp, prefix: replicas}}
policies:
  default: {{required: [sbom, vulnerabilities, signature]}}
signing: {{generate: true}}
advisories: {{source: advisories}}
sensors: {{running: true, interval: 1s, max_requests: 50}}
shared: {{silence: 5s}}
images:
"""
IMAGE = "  {0}: {{registry: source, repository: team/{0}, promote: auto, targets: [eu, gcp]}}\n"
PERIOD_S = int(patient(15))
"""A run that nobody took is over after so long; one whose worker is gone much sooner."""
HASTY = {"run_monitoring": {"poll_interval_seconds": 2, "start_timeout_seconds": PERIOD_S}}
"""Periods of seconds; the rest is as it is shipped."""


@dataclass
class Fleet:
    """Images of a configuration, each with a layer that all have and one of its own. released: what was pushed, by
    image and tag, in the order of pushes."""

    folder: Path
    images: list[str]
    layer_bytes: int = 100_000
    released: dict[tuple[str, str], Digest] = field(default_factory=dict)
    layers: set[str] = field(default_factory=set)
    far_s: float = 0
    """Seconds that each answer of a registry is away."""

    def __post_init__(self) -> None:
        write_advisory(self.folder / "advisories")
        text = SETTINGS.format(*free_ports(3)) + "".join(IMAGE.format(name) for name in self.images)
        self.path.write_text(text)

    @property
    def path(self) -> Path:
        """The configuration, the same for all machines."""
        return self.folder / "registry-pipelines.yaml"

    @property
    def log(self) -> Path:
        """Of what was uploaded."""
        return self.folder / "uploads.jsonl"

    def cluster(self, **settings: Any) -> Cluster:
        """The machines, not started."""
        made = Cluster(self.path, self.folder / "machines", **settings)
        made.registries.command = [
            sys.executable,
            "-m",
            "tests.cluster.serving",
            str(self.path),
            str(self.log),
            str(self.far_s),
        ]
        made.registries.environment = {**made.registries.environment, "PYTHONPATH": str(TOP)}
        # One process instead of the two of `code-server start`, which can load the code again.
        made.code.command = [part for part in made.code.command if part not in ("code-server", "start")]
        made.code.command[3:3] = ["api", "grpc"]
        return made

    def config(self, *, keys: bool = False) -> Config:
        """As one more machine has it, which shares nothing. keys: it has the signing keys."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_PIPELINES_")}
        state = self.folder / "client"
        if keys and not (state / "keys").exists():
            shutil.copytree(self.folder / "machines" / "registries" / "state" / "keys", state / "keys")
        return load(self.path, {**own, STATE: str(state), SERVED_BY: HOST})

    def push(self, image: str, tag: str) -> None:
        """Push a release as any CI system would."""
        chain = Chain(self.config())
        place = Place(chain.registry("source"), f"team/{image}")
        own = random.Random(f"{image}:{tag}").randbytes(self.layer_bytes)
        shared = random.Random("shared").randbytes(self.layer_bytes)
        metadata = f"Metadata-Version: 2.1\nName: goodwheel\nVersion: 1.0\n\n{image} {tag}"
        info = "usr/lib/python3/site-packages/goodwheel-1.0.dist-info"
        made = push_image(
            place,
            [{"opt/shared.bin": shared}, {"opt/own.bin": own, f"{info}/METADATA": metadata, f"{info}/RECORD": ""}],
            tag=tag,
        )
        self.released[image, tag] = made.digest
        found = json.loads(place.registry.get_manifest(place.repository, made.digest).raw)
        self.layers.update(layer["digest"] for layer in found["layers"])

    def promotions(self) -> Counter[tuple[str, str]]:
        """How many signed records say that each release was promoted."""
        config = self.config()
        believed = trusted_keys(load(self.path, {STATE: str(self.folder / "machines" / "registries" / "state")}))
        chain = Chain(config)
        return Counter(
            {
                (image, tag): len(records(chain.place(image), digest, believed))
                for (image, tag), digest in self.released.items()
            }
        )

    def missing(self, left: Container[str] = ()) -> list[str]:
        """What is not where it must be: each release at both targets, each channel at its image's newest release. left:
        releases (``image:tag``) that stay where they are, see :func:`left`."""
        config, wrong = self.config(), []
        chain = Chain(config)
        newest = {image: digest for (image, _), digest in self.released.items()}
        for (image, tag), digest in self.released.items():
            if f"{image}:{tag}" in left and newest[image] != digest:
                continue
            for target in ("eu", "gcp"):
                place = Place(chain.registry(target), ("replicas/" if target == "gcp" else "") + f"team/{image}")
                if not _resolves(place, str(digest)):
                    wrong.append(f"{image}:{tag} is not at {target}")
        for image, digest in newest.items():
            if not _resolves(Place(chain.registry("source"), f"team/{image}"), "prod", digest):
                wrong.append(f"the channel of {image} does not name its newest release")
        return wrong

    def sent(self) -> list[Upload]:
        """Uploads of layers of releases to targets."""
        return [each for each in uploads(self.log) if each.registry != "source" and each.digest in self.layers]

    def sent_twice(self) -> list[tuple[str, str]]:
        """Targets and layers that were sent there more than once."""
        counted = Counter((each.registry, each.digest) for each in self.sent())
        return [key for key, count in counted.items() if count > 1]


def _resolves(place: Place, reference: str, digest: Digest | None = None) -> bool:
    try:
        found = place.registry.resolve(place.repository, reference)
    except Exception:  # not there, or nobody answers yet
        return False
    return digest is None or found.digest == digest


def looked(cluster: Cluster) -> bool:
    """Whether the push sensor has looked once: what is pushed from now on is new. Others tick earlier."""
    ticks = "SELECT 1 FROM job_ticks WHERE status IN ('SKIPPED', 'SUCCESS') AND tick_body LIKE '%push_source%' LIMIT 1"
    return bool(cluster.query(ticks))


def releases(cluster: Cluster) -> list[Run]:
    """Runs of releases, the oldest first."""
    return [run for run in runs(cluster) if run.job == "release"]


def left(found: list[Run]) -> set[str]:
    """Releases (``image:tag``) that stay where they are, because a newer one of their image is out: a run held them, or
    the newest of theirs failed before it promoted them, as when Dagster's database went away within a step. No
    reconcile asks again for these: see ``lost`` in ``dagster_project.sensors``."""
    newest = {run.about.rpartition("@")[0]: run for run in found}
    out = [name.partition(":") for name, run in newest.items() if run.outcome == "promoted"]
    late = {
        name
        for name, run in newest.items()
        if run.status == "FAILURE" and not run.outcome and _is_before(name.partition(":"), out)
    }
    return late | {run.about.rpartition("@")[0] for run in found if run.outcome.startswith("held")}


def _is_before(one: tuple[str, str, str], others: Iterable[tuple[str, str, str]]) -> bool:
    return any(one[0] == other[0] and one[2] < other[2] for other in others)


def over(cluster: Cluster, fleet: Fleet) -> list[Run]:
    """The runs of all releases, when every release is where it must be and nothing is under way. A run may have failed
    after that, as when Postgres was away while it wrote its page."""
    found = releases(cluster)
    if not found or any(not run.is_over for run in found):
        return []
    tried_again = {run.tags.get("dagster/parent_run_id") for run in found}
    if any(run.starts_again and run.id not in tried_again for run in found):
        return []
    if {run.about.rpartition("@")[0] for run in found} < {f"{image}:{tag}" for image, tag in fleet.released}:
        return []
    return [] if fleet.missing(left(found)) else found
