"""``ship`` of a built release against the sum of the single commands of an earlier build of ours.

    python benchmarks/ship.py --against ../base/.venv/bin/python [--rounds 9] [--write]

The other build runs `sbom`, `scan`, `sign`, `judge`, `promote` and `replicate` (two targets in one command), a process
for each; this one runs `ship`, which also reads the provenance. `builds.py` tells how to get the other. Each build has
a state folder and repositories of its own; all are served by processes of this build, whose work is in the wall time,
not in CPU seconds. Peak memory is that of the largest process.

In the table below 1 this build is better. new: a release of which nothing is known but its layers, so that all evidence
is written and copied. again: the same once more, when everything is there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.builds import HERE, Build, Figures, alternate
from benchmarks.wheel_builds import EmbeddedServerProcess
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import attach_provenance
from tests.scan.images import push_image

SETTINGS = """\
registries:
  us: {{kind: distribution, host: "{0}", plain_http: true}}
  eu: {{kind: distribution, host: "{1}", plain_http: true}}
  gcp: {{kind: distribution, host: "{2}", plain_http: true}}
images:
  app: {{registry: us, repository: {3}/app, policy: bench, targets: [eu, gcp]}}
targets:
  eu: {{registry: eu}}
  gcp: {{registry: gcp, prefix: replicas}}
policies:
  bench:
    accept_unknowns:
      - {{kind: advisories-age, until_age: 36500d, reason: the set that comes with the package}}
signing: {{generate: true}}
"""

COMMAND = "import sys; from registry_pipelines.cli import main; main(sys.argv[1:])"
SINGLE = ("sbom", "scan", "sign", "judge", "promote", "replicate")

PACKAGES = 250
"""As many as an image with PyTorch on Debian has; all are wheels, because both builds have advisories for those."""


def layers() -> list[dict[str, bytes | str]]:
    """Package databases of a usual size."""
    site = "usr/lib/python3/site-packages"
    wheels: dict[str, bytes | str] = {}
    for number in range(PACKAGES):
        name = f"wheel{number}"
        wheels[f"{site}/{name}-1.{number}.dist-info/METADATA"] = f"Name: {name}\nVersion: 1.{number}\n\n"
        wheels[f"{site}/{name}-1.{number}.dist-info/RECORD"] = f"{name}/__init__.py,,\n"
        wheels[f"{site}/{name}/__init__.py"] = "x = 1\n" * number
    return [wheels]


class Bench:
    """A folder with configuration and state for each build, on registries that both use."""

    def __init__(self, folder: Path, addresses: Sequence[str]) -> None:
        self._folder, self._numbers = folder, count(1)
        self._registry = DistributionRegistry(addresses[0], plain_http=True)
        self._tags: dict[str, str] = {}
        for name in ("this", "other"):
            (folder / name).mkdir()
            (folder / name / "registry-pipelines.yaml").write_text(SETTINGS.format(*addresses, name))

    def new(self, build: Build) -> Figures:
        """A release whose layers alone are known."""
        name, tag = self._of(build), f"v1.0.{next(self._numbers)}"
        place = Place(self._registry, f"{name}/app")
        label: dict[str, bytes | str] = {"etc/release": tag}
        attach_provenance(place, push_image(place, [*layers(), label], tag=tag))
        self._tags[name] = tag
        return self._measure(build)

    def again(self, build: Build) -> Figures:
        """The same once more."""
        return self._measure(build)

    def _of(self, build: Build) -> str:
        return "this" if build is HERE else "other"

    def _measure(self, build: Build) -> Figures:
        name = self._of(build)
        common = [
            f"app:{self._tags[name]}",
            "--quiet",
            "--config",
            str(self._folder / name / "registry-pipelines.yaml"),
        ]
        commands = ("ship",) if build is HERE else SINGLE
        samples = [build.run(COMMAND, [command, *common], {}) for command in commands]
        return {
            "s": sum(each.wall_s for each in samples),
            "CPU s": sum(each.cpu_s for each in samples),
            "peak MB": max(each.peak_mb for each in samples),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not options.against:
        print("this build is measured against another one of ours: --against PYTHON")
        return
    with tempfile.TemporaryDirectory(prefix="bench-ship-") as name, ExitStack() as stack:
        folder = Path(name)
        servers = [EmbeddedServerProcess(folder / f"registry{number}") for number in range(3)]
        bench = Bench(folder, [stack.enter_context(server) for server in servers])
        table = alternate({"new": bench.new, "again": bench.again}, Build(options.against), options.rounds)
    print(table)
    if options.write:
        command = f"python benchmarks/ship.py --against {options.against} --rounds {options.rounds} --write"
        assert __doc__
        text = __doc__.partition("The other build")[2].replace("\n", " ").replace("  ", "\n\n")
        measure.write_page("ship", "One release through the chain", command, f"The other build{text.rstrip()}", table)


if __name__ == "__main__":
    main()
