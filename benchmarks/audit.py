"""An audit of many events: log files of CloudTrail into Parquet, against gzip, json and pandas as one would write it by
hand. Writes docs/benchmarks/audit.md.

    python benchmarks/audit.py [--events 1000000] [--rounds 3] [--write]

The records have the shape and the size of real ones (pulls by nodes with their layers, pushes by CI, deletions, a
quarter of other services' records), 500 in a file, over 30 days. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure

PROGRAM = str(Path(sys.executable).with_name("registry-pipelines"))
ACCOUNT = "111122223333"
IN_FILE = 500
DAYS = 30
SETTINGS = """\
registries:
  ecr: {kind: ecr, account: '111122223333', region: eu-west-1}
  here: {kind: layout, root: images}
images: {app: {registry: here, repository: app}}
report:
  audit:
    window: 60d
    pushers: {'*': ['arn:aws:sts::111122223333:assumed-role/ci-push/*']}
    sources: {files: {kind: cloudtrail-files, store: logs}}
"""
BY_HAND = """\
import gzip, json, sys, resource
from pathlib import Path
import pandas as pd
rows = []
for path in sorted(Path(sys.argv[1]).rglob("*.json.gz")):
    for each in json.loads(gzip.decompress(path.read_bytes()))["Records"]:
        if each["eventSource"] != "ecr.amazonaws.com":
            continue
        request = each["requestParameters"] or {}
        rows.append({
            "time": each["eventTime"], "id": each["eventID"], "who": each["userIdentity"].get("arn"),
            "operation": each["eventName"], "repository": request.get("repositoryName"), "tag": request.get("imageTag"),
            "digest": request.get("layerDigest"), "address": each["sourceIPAddress"], "agent": each["userAgent"],
        })
frame = pd.DataFrame(rows)
frame["time"] = pd.to_datetime(frame["time"])
frame = frame.drop_duplicates("id").sort_values("time")
for day, part in frame.groupby(frame["time"].dt.date):
    part.to_parquet(f"{sys.argv[2]}/{day}.parquet")
"""


def record(number: int, at: datetime, chance: random.Random) -> dict[str, object]:
    """One record: nine of twelve a pull or a layer of it, one a push, one a setting, and one another service's."""
    kind = number % 12
    repository = f"team{number % 40}/app{number % 200}"
    name = "ci-push" if kind == 9 else "node" if kind < 9 else "admin"
    request: dict[str, object] = {"registryId": ACCOUNT, "repositoryName": repository}
    response: dict[str, object] | None = None
    digest = "sha256:" + chance.randbytes(32).hex()
    event = "GetDownloadUrlForLayer"
    if kind < 3:
        event = "BatchGetImage"
        request |= {
            "imageIds": [{"imageDigest": digest}],
            "acceptedMediaTypes": ["application/vnd.oci.image.manifest.v1+json"],
        }
    elif kind < 9:
        request |= {"layerDigest": digest}
    elif kind == 9:
        event = "PutImage"
        manifest = json.dumps({"schemaVersion": 2, "layers": [{"digest": digest, "size": 5}] * 6})
        request |= {"imageTag": f"v{number}", "imageManifest": manifest}
        image = {**request, "imageId": {"imageDigest": digest, "imageTag": f"v{number}"}}
        response = {"image": image}
    elif kind == 10:
        event = "SetRepositoryPolicy"
        request |= {"policyText": "{}", "force": False}
    return {
        "eventVersion": "1.10",
        "userIdentity": {
            "type": "AssumedRole", "principalId": f"AROAEXAMPLE:i-{number % 300:04}", "accountId": ACCOUNT,
            "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/i-{number % 300:04}", "accessKeyId": "ASIAEXAMPLE",
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role", "principalId": "AROAEXAMPLE", "arn": f"arn:aws:iam::{ACCOUNT}:role/{name}",
                    "accountId": ACCOUNT, "userName": name,
                },
                "webIdFederationData": {},
                "attributes": {"creationDate": "2026-11-20T08:00:00Z",
                    "mfaAuthenticated": "false"},
            },
        },
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "sts.amazonaws.com" if kind == 11 else "ecr.amazonaws.com",
        "eventName": event, "awsRegion": "eu-west-1", "sourceIPAddress": f"10.0.{number % 250}.{number % 199}",
        "userAgent": "docker/28.5.1 go/go1.24.8 git-commit/f8215cc kernel/6.8 os/linux arch/amd64",
        "requestParameters": request, "responseElements": response,
        "requestID": f"{number:08x}-5f9d-11e9-9b2a-95983139cc57",
        "eventID": f"{number:08x}-2178-4a82-a27d-b12939923f0f",
        "readOnly": kind < 9,
        "resources": [{"accountId": ACCOUNT, "ARN": f"arn:aws:ecr:eu-west-1:{ACCOUNT}:repository/{repository}"}],
        "eventType": "AwsApiCall", "managementEvent": True, "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
        "tlsDetails": {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": "api.ecr.eu-west-1.amazonaws.com"},
    }  # fmt: skip


def write_logs(folder: Path, events: int) -> tuple[int, int]:
    """Log files with so many records of ECR; records in all, and bytes as stored."""
    chance, stored, number, ours = random.Random(7), 0, 0, 0
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
    seconds = DAYS * 86400 / (events * 12 / 11)
    while ours < events:
        first = begin + timedelta(seconds=number * seconds)
        records = []
        while len(records) < IN_FILE and ours < events:
            records.append(record(number, begin + timedelta(seconds=number * seconds), chance))
            ours += number % 12 != 11
            number += 1
        target = folder / "eu-west-1" / f"{first:%Y/%m/%d}"
        target.mkdir(parents=True, exist_ok=True)
        raw = gzip.compress(json.dumps({"Records": records}).encode(), 6)
        (target / f"{ACCOUNT}_CloudTrail_eu-west-1_{number:08}.json.gz").write_bytes(raw)
        stored += len(raw)
    return number, stored


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    told = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="audit-", dir="/var/tmp"))
    try:
        sections = _measured(folder, told.events, told.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if told.write:
        measure.write_page("audit", "Audit", f"python benchmarks/audit.py --rounds {told.rounds} --write", *sections)
    print("\n\n".join(sections))


def _measured(folder: Path, events: int, rounds: int) -> list[str]:
    records, stored = write_logs(folder / "logs", events)
    (folder / "images").mkdir()
    config = folder / "registry-pipelines.yaml"
    config.write_text(SETTINGS)
    audit = [PROGRAM, "report", "audit", "--quiet", "--json", "--config", str(config)]
    by_hand = [sys.executable, "-c", BY_HAND, str(folder / "logs"), str(folder / "hand")]
    rows = {
        f"`report audit`: {events:,} events of {records:,} records read, kept and judged": audit,
        "gzip, json and pandas by hand: the same records, nine columns, not judged": by_hand,
        "`report audit` again: nothing is new; all events of 60 days counted and judged": audit,
        "`report audit --kept --by repository --action push`": [
            *audit,
            "--kept",
            "--by",
            "repository",
            "--action",
            "push",
        ],
    }
    found: dict[str, list[measure.Sample]] = {name: [] for name in rows}
    (folder / "hand").mkdir()
    for _ in range(rounds):
        shutil.rmtree(folder / ".registry-pipelines", ignore_errors=True)
        for name, command in rows.items():
            found[name].append(measure.run(command))
    kept = sum(each.stat().st_size for each in (folder / ".registry-pipelines").rglob("*.parquet"))
    lines = ["| run | wall s | CPU s | peak MB |", "|---|---:|---:|---:|"]
    for name, samples in found.items():
        one = measure.median(samples)
        lines.append(f"| {name} | {one.wall_s:.1f} | {one.cpu_s:.1f} | {one.peak_mb:.0f} |")
    return [
        f"Log files of CloudTrail in the shape of real ones: {stored / 1e6:.0f} MB as `.json.gz`, "
        f"{records // IN_FILE:,} files over {DAYS} days, a twelfth of the records other services'; in a folder, as a "
        "bucket gives them. "
        f"Medians of {rounds} rounds; the load average was {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores.",
        measure.beside("\n".join(lines)),
        f"The events are {kept / 1e6:.0f} MB of Parquet, a file a day. A day is merged a group of rows at a time, so "
        "that memory does not grow with the events.",
    ]


if __name__ == "__main__":
    main()
