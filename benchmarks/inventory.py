"""How long the inventory of a large registry takes by its cloud's list APIs, and how much memory: 100,000 images.

    python benchmarks/inventory.py [--images 100000] [--repositories 100] [--delay-ms 0]

The doubles of the tests answer, in pages of 1,000, in this process; who reads is a process of its own, whose peak is
told. ``--delay-ms`` holds every answer back, as a distance does. The double's own work is part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.doubles.aws.front import AwsDouble, Call
from tests.doubles.google import GoogleCloud
from tests.inventory.clouds import DAY_S, LOCATION, PROJECT, ecr_place, index, manifest, put, written

READ = """
import json, sys, time
from pathlib import Path
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
began, cpu = time.perf_counter(), time.process_time()
found, result = Chain(load(Path(sys.argv[1]))).inventory([sys.argv[2]])
peak = next(int(each.split()[1]) / 1024 for each in open("/proc/self/status") if each.startswith("VmHWM"))
seconds, used = time.perf_counter() - began, time.process_time() - cpu
found.write(Path(sys.argv[1]).parent / "images.parquet")
print(json.dumps({"seconds": seconds, "cpu": used, "images": len(found.frame), "calls": result.facts["calls"],
    "whole": result.ok, "peak_mb": peak,
    "file_mb": (Path(sys.argv[1]).parent / "images.parquet").stat().st_size / 1e6}))
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--repositories", type=int, default=100)
    options.add_argument("--delay-ms", type=float, default=0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, AwsDouble() as aws, GoogleCloud(Path(folder) / "google") as google:
        fill_ecr(aws, chosen.images, chosen.repositories)
        fill_gar(google, chosen.images, chosen.repositories)
        if chosen.delay_ms:
            delay(aws, chosen.delay_ms / 1000)
        config = written(Path(folder), aws, google)
        for registry in ("ecr", "gar"):
            command = [sys.executable, "-c", READ, str(config), registry]
            ran = subprocess.run(command, env={**os.environ, **aws.environment}, capture_output=True, text=True)
            if ran.returncode:
                raise SystemExit(ran.stderr)
            told = json.loads(ran.stdout)
            print(
                f"{registry}: {told['images']} images in {told['seconds']:.1f} s ({told['cpu']:.1f} s of CPU), "
                f"{told['calls']} calls, peak {told['peak_mb']:.0f} MB, Parquet {told['file_mb']:.1f} MB"
            )
            assert told["whole"] and told["images"] == chosen.images


def fill_ecr(aws: AwsDouble, count: int, repositories: int) -> None:
    """Of ten manifests three are an index and its two images."""
    place, now, made = ecr_place(aws), aws.clock(), 0
    while made < count:
        name, at = f"team/app-{made // max(1, count // repositories)}", now - (made % 400) * DAY_S
        if made % 10 == 0 and made + 3 <= count:
            pair = [put(place, name, manifest(made + each), at=at) for each in range(2)]
            put(place, name, index(pair), f"v{made}", at=at)
            made += 3
        else:
            put(place, name, manifest(made), f"dev-{made}", at=at)
            made += 1


def fill_gar(google: GoogleCloud, count: int, repositories: int) -> None:
    from tests.doubles.google.images import Image, Package

    now = google.world.now()
    for number in range(count):
        repository = f"models-{number % max(1, repositories // 10)}"
        held = f"projects/{PROJECT}/locations/{LOCATION}/repositories/{repository}"
        if held not in google.images.held:
            google.repository(PROJECT, LOCATION, repository)
        name = f"team/app-{number % repositories}"
        package = google.images.held[held].packages.setdefault(name, Package(name, now, now))
        digest = f"sha256:{number:064x}"
        package.images[digest] = Image(digest, "application/vnd.oci.image.manifest.v1+json", now, now, size=number)
        package.set_tag(f"v{number}", digest, now)


def delay(aws: AwsDouble, seconds: float) -> None:
    """Hold every answer back, before the double's lock is taken."""
    checked = aws._checked

    def slow(wire: object) -> Call:
        time.sleep(seconds)
        return checked(wire)  # type: ignore[arg-type]

    aws._checked = slow  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
