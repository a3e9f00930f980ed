"""How long a lifecycle policy of ECR and one of Artifact Registry take over a million images.

    python benchmarks/lifecycle.py [--images 1000000] [--repositories 1000]

The inventory is in memory before the clock starts; what it takes to make it is said apart. Of the images, 30 % are
untagged, 10 % indexes with two manifests each, 5 % referrers.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from registry_pipelines.inventory.schema import SCHEMA
from registry_pipelines.inventory.value import Inventory, from_table
from registry_pipelines.lifecycle.ecr_evaluate import evaluate_ecr
from registry_pipelines.lifecycle.ecr_policy import read_ecr_policy
from registry_pipelines.lifecycle.evaluation import Evaluation
from registry_pipelines.lifecycle.gar_evaluate import evaluate_gar
from registry_pipelines.lifecycle.gar_policy import read_gar_policies
from registry_pipelines.oci import media_types

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=1_000_000)
    options.add_argument("--repositories", type=int, default=1_000)
    chosen = options.parse_args()
    began = time.perf_counter()
    inventory = fleet(chosen.images, chosen.repositories)
    print(f"made {chosen.images} images in {time.perf_counter() - began:.1f} s, {peak_mb():.0f} MB")
    for name, rules in ECR.items():
        policy = read_ecr_policy(json.dumps({"rules": rules}))
        measured(f"ECR, {name} ({len(rules)} rules)", lambda policy=policy: evaluate_ecr(policy, inventory, now=NOW))
    gar = read_gar_policies(json.dumps(GAR))
    measured("Artifact Registry (4 policies)", lambda: evaluate_gar(gar, inventory, now=NOW))


def measured(name: str, work: object) -> None:
    cpu, began = time.process_time(), time.perf_counter()
    found: Evaluation = work()  # type: ignore[operator]
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    gone, open_ = int(found.deletes.sum()), int(found.undecided.sum())
    print(f"{name}: {seconds:.2f} s, {used:.2f} s of CPU, {gone} go, {open_} undecided, {peak_mb():.0f} MB")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rule(priority: int, selection: dict[str, object]) -> dict[str, object]:
    unit = {} if selection["countType"] == "imageCountMoreThan" else {"countUnit": "days"}
    return {"rulePriority": priority, "selection": {**selection, **unit}, "action": {"type": "expire"}}


def tagged(pattern: str, count_type: str, number: int) -> dict[str, object]:
    return {"tagStatus": "tagged", "tagPatternList": [pattern], "countType": count_type, "countNumber": number}


USUAL = [
    rule(1, tagged("prod*", "imageCountMoreThan", 10)),
    rule(2, tagged("dev*", "sinceImagePushed", 14)),
    rule(3, {"tagStatus": "untagged", "countType": "sinceImagePushed", "countNumber": 7}),
]
LARGEST = [
    *(rule(at, tagged(f"*-{at}*", "imageCountMoreThan", at)) for at in range(1, 49)),
    rule(49, {"tagStatus": "untagged", "countType": "sinceImagePushed", "countNumber": 7}),
    rule(50, {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 500}),
]
ECR = {"the usual policy": USUAL, "the largest policy": LARGEST}
GAR = [
    {
        "name": "dev",
        "action": "DELETE",
        "condition": {"tagState": "TAGGED", "tagPrefixes": ["dev"], "olderThan": "14d"},
    },
    {"name": "bare", "action": "DELETE", "condition": {"tagState": "UNTAGGED", "olderThan": "7d"}},
    {"name": "prod", "action": "KEEP", "condition": {"tagState": "TAGGED", "tagPrefixes": ["prod"]}},
    {"name": "newest", "action": "KEEP", "mostRecentVersions": {"keepCount": 5}},
]


def fleet(count: int, repositories: int) -> Inventory:
    """Images of about one age a repository each, made as columns."""
    numbers = np.arange(count)
    random = np.random.default_rng(7)
    digests = pa.array([f"sha256:{at:064x}" for at in range(count)])
    kind = random.random(count)
    tags = [
        [] if kind[at] < 0.3 else [f"prod-{at}", "prod"] if kind[at] < 0.4 else [f"dev-{at}"] for at in range(count)
    ]
    index = (kind > 0.5) & (kind < 0.6) & (numbers + 2 * repositories < count)
    children = [
        [f"sha256:{at + repositories:064x}", f"sha256:{at + 2 * repositories:064x}"] if index[at] else []
        for at in range(count)
    ]
    subject = [
        f"sha256:{at - repositories:064x}" if kind[at] < 0.05 and at >= repositories else None for at in range(count)
    ]
    now = int(NOW.timestamp() * 1e6)
    pushed = now - (random.random(count) * 400 * 86400e6).astype(np.int64)
    names = pa.array([f"project/repository/{at}" for at in range(repositories)])
    word = pa.dictionary(pa.int32(), pa.string())
    media = pa.array([media_types.OCI_MANIFEST, media_types.OCI_INDEX])
    columns = {
        "registry": pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), pa.array(["ecr"])),
        "repository": pa.DictionaryArray.from_arrays((numbers % repositories).astype(np.int32), names),
        "digest": digests,
        "tags": pa.array(tags, type=pa.list_(pa.string())),
        "size_bytes": pa.array(random.integers(1 << 20, 1 << 34, count)),
        "media_type": pa.DictionaryArray.from_arrays(index.astype(np.int32), media),
        "children": pa.array(children, type=pa.list_(pa.string())),
        "subject": pa.array(subject, type=pa.string()),
        "pushed": pa.array(pushed, type=pa.timestamp("us", tz="UTC")),
        "status": pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), pa.array(["ACTIVE"])),
        "answered": pa.array(np.full(count, now), type=pa.timestamp("us", tz="UTC")),
    }
    empty = {field.name: pa.nulls(count, type=word if field.type == word else field.type) for field in SCHEMA}
    table = pa.table([columns.get(field.name, empty[field.name]) for field in SCHEMA], schema=SCHEMA)
    return from_table(table, [])


if __name__ == "__main__":
    main()
