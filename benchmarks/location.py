"""How long the code location takes to load, in a process of its own as Dagster does it, against Dagster's own import.

    python benchmarks/location.py [--images 3000] [--runs 3]

`loads`: everything that a code server does before it answers: import, read the configuration, make and check every
definition. Nothing is written; docs/dagster.md has the figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import interleave, machine, median, run
from dagster_project.resources import DEMO_CONFIG

LOADS = "import dagster_project.definitions as it; it.defs().get_repository_def().load_all_definitions()"


def configuration(folder: Path, images: int) -> Path:
    """Images of 40 teams, each with a target; 32 bytes of names and 60 of fields an image."""
    path = folder / "registry-pipelines.yaml"
    lines = [
        "registries: {here: {kind: embedded, port: 5999}, eu: {kind: embedded, port: 5998}}",
        "targets: {eu: {registry: eu}}",
        "report: {teams: {a: ['t1*/*'], b: ['t2*/*']}}",
        "images:",
        *(f"  app{at}: {{registry: here, repository: t{at % 40}/app{at}, targets: [eu]}}" for at in range(images)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=3000)
    options.add_argument("--runs", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fleet = configuration(Path(folder), chosen.images)

        def loads(path: Path) -> dict[str, str]:
            return {"REGISTRY_PIPELINES_CONFIG": str(path)}

        root = Path(__file__).parent.parent
        found = interleave(
            {
                "import dagster": lambda: run([sys.executable, "-c", "import dagster"], cwd=root),
                "loads, the demo": lambda: run([sys.executable, "-c", LOADS], env=loads(DEMO_CONFIG), cwd=root),
                f"loads, {chosen.images} images": lambda: run(
                    [sys.executable, "-c", LOADS], env=loads(fleet), cwd=root
                ),
            },
            runs=chosen.runs,
        )
    print(machine())
    for name, samples in found.items():
        middle = median(samples)
        print(f"{name:24} {middle.wall_s:6.2f} s  {middle.cpu_s:6.2f} CPU-s  {middle.peak_mb:6.0f} MB")


if __name__ == "__main__":
    main()
