"""Copy images between registries: ours, skopeo, crane and oras, side by side.

    python benchmarks/transfer.py [--scenario single|capped|fleet|link|memory] [--gib 4] [--runs 3] [--write]
    python benchmarks/transfer.py --against PYTHON [--rounds 9] [--gib 1]

Source and target are docker-registry processes of this machine with their content below ``--folder`` (memory, when
there is enough). The target is emptied before every run. CPU seconds and peak memory are the copier's own.

``--against``: this build and another of ours (see ``builds.py``) in turns: one image plain and over TLS, the fleet cold
and warm. Nine rounds of 1 GiB take about a quarter of an hour on two idle cores; ``--gib`` and ``--fleet-scale`` make
it less.

``--scenario fixed [--against PYTHON] --gib 1.5``: what a copy costs beyond its bytes, beside crane and oras.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.builds import BOTH, HERE, Build, Figures, alternate
from benchmarks.fleet import Noise, fleet, fleet_work
from benchmarks.link_proxy import Link
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.conftest import find_peer
from tests.doubles.certificates import Certificates, make_certificates
from tests.doubles.docker_registry import DockerRegistry

OURS = f"""
import sys
{BOTH}
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
source, target, ca, state = sys.argv[1:5]
ca_file = Path(ca) if ca else None
parts = [item.split('/', 1) for item in (source, target)]
a, b = (Place(DistributionRegistry(host, ca_file=ca_file), repository) for host, repository in parts)
copy_closure(a, 'v1', [b], **keeping(Path(state)))
status = Path('/proc/self/status').read_text().splitlines()
(Path(state) / 'peak').write_text(next(line.split()[1] for line in status if line.startswith('VmHWM')))
"""


def push_image(place: Place, sizes: list[int], tag: str = "v1") -> int:
    layers = []
    for number, size in enumerate(sizes):
        noise = Noise(size, number)
        layers.append(noise.descriptor())
        place.registry.upload_blob(place.repository, layers[-1], noise)
    config = push_blob(
        place,
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}',
        media_type=media_types.OCI_CONFIG,
    )
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=tuple(layers))
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return sum(sizes)


class Bench:
    """Source and target registries and the commands that copy between them."""

    def __init__(self, folder: Path, stack: ExitStack, *, tls: bool) -> None:
        self.folder = folder
        self.certificates: Certificates | None = make_certificates(folder / "tls") if tls else None
        program = find_peer("docker-registry") or "docker-registry"
        cert, key = (self.certificates.certificate, self.certificates.key) if self.certificates else (None, None)
        self.source = stack.enter_context(DockerRegistry(program, folder / "source", certificate=cert, key=key))
        self.target = stack.enter_context(DockerRegistry(program, folder / "target", certificate=cert, key=key))
        self.source_address, self.target_address = self.source.address, self.target.address

    def place(self, address: str, repository: str) -> Place:
        ca = self.certificates.ca if self.certificates else None
        return Place(DistributionRegistry(address, ca_file=ca), repository)

    def empty_target(self) -> None:
        shutil.rmtree(self.folder / "target" / "data", ignore_errors=True)
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def command(self, copier: str) -> list[str]:
        source, target = f"{self.source_address}/bench/image", f"{self.target_address}/bench/image"
        tls = self.certificates is not None
        program = find_peer(copier) or copier
        if copier == "skopeo":
            check = [f"--src-tls-verify={str(False).lower()}", "--dest-tls-verify=false"]
            return [program, "--insecure-policy", "copy", *check, f"docker://{source}:v1", f"docker://{target}:v1"]
        if copier == "crane":
            return [program, "cp", "--insecure", f"{source}:v1", f"{target}:v1"]
        if copier == "oras":
            flags = ["--from-insecure", "--to-insecure"] if tls else ["--from-plain-http", "--to-plain-http"]
            return [program, "cp", "--no-tty", *flags, f"{source}:v1", f"{target}:v1"]
        raise ValueError(copier)

    def contender(self, copier: str, build: Build = HERE) -> Callable[[], measure.Sample]:
        def run() -> measure.Sample:
            self.empty_target()
            home = self.folder / "home"
            home.mkdir(exist_ok=True)
            env = {"HOME": str(home)}
            if copier != "ours":
                return measure.run(self.command(copier), env=env)
            ca = str(self.certificates.ca) if self.certificates else ""
            ends = (f"{address}/bench/image" for address in (self.source_address, self.target_address))
            return build.run(OURS, [*ends, ca, str(self.folder / "state")], env)

        return run

    def work(self, build: Build) -> Figures:
        """What one copy costs a build of ours."""
        sample = self.contender("ours", build)()
        return {"s": sample.wall_s, "CPU s": sample.cpu_s}


def copiers() -> list[str]:
    return ["ours", *(name for name in ("skopeo", "crane", "oras") if find_peer(name))]


def push_large(bench: Bench, gib: float) -> None:
    """An image with one layer of three quarters."""
    total = int(gib * (1 << 30))
    push_image(bench.place(bench.source_address, "bench/image"), [total * 3 // 4, *[total // 16] * 4])


def against(folder: Path, python: str, rounds: int, gib: float, scale: float) -> str:
    """This build and the one of another interpreter, in turns."""
    with ExitStack() as stack:
        works: dict[str, Callable[[Build], Figures]] = {}
        for name, tls in (("plain HTTP", False), ("TLS", True)):
            part = folder / ("tls" if tls else "plain")
            part.mkdir()
            bench = Bench(part, stack, tls=tls)
            push_large(bench, gib)
            works[f"{gib:g} GiB, {name}"] = bench.work
        works[f"fleet, sizes x {scale:g}"] = fleet_work(folder, stack, scale)
        return alternate(works, Build(python), rounds)


def single(folder: Path, gib: float, runs: int, *, tls: bool) -> str:
    with ExitStack() as stack:
        bench = Bench(folder, stack, tls=tls)
        push_large(bench, gib)
        print(f"single image of {gib} GiB, {'TLS' if tls else 'plain HTTP'}")
        samples = measure.interleave({name: bench.contender(name) for name in copiers()}, runs=runs)
        return measure.comparison(samples, ours="ours")


def fixed(folder: Path, gib: float, runs: int, other: Build | None) -> str:
    """What a copy costs beyond its bytes: the wall time of ``gib`` less what it takes at the rate between a third of it
    and all of it. Medians; the fewer runs, the more of the machine's noise is in a difference of two."""
    builds = {"ours": HERE, **({"other build": other} if other else {})}
    names = [*builds, *(name for name in ("crane", "oras") if find_peer(name))]
    contenders: dict[str, Callable[[], measure.Sample]] = {}
    with ExitStack() as stack:
        for at, size in enumerate((gib / 3, gib)):
            part = folder / f"fixed-{at}"
            part.mkdir()
            bench = Bench(part, stack, tls=False)
            push_large(bench, size)
            for name in names:
                copier = "ours" if name in builds else name
                contenders[f"{name} {at}"] = bench.contender(copier, builds.get(name, HERE))
        samples = measure.interleave(contenders, runs=runs)
    rows = [f"| | {gib / 3:.2f} GiB s | {gib:.2f} GiB s | MB/s | fixed s |", "|---|---|---|---|---|"]
    for name in names:
        less, all_of_it = (measure.median(samples[f"{name} {at}"]).wall_s for at in (0, 1))
        per_gib = (all_of_it - less) / (gib * 2 / 3)
        fixed_s = all_of_it - gib * per_gib
        rows.append(f"| {name} | {less:.2f} | {all_of_it:.2f} | {(1 << 30) / 1e6 / per_gib:.0f} | {fixed_s:.2f} |")
    return measure.beside("\n".join(rows))


def capped(folder: Path, gib: float, runs: int) -> str:
    with ExitStack() as stack:
        bench = Bench(folder, stack, tls=False)
        push_large(bench, gib)
        bench.source_address = stack.enter_context(Link(bench.source_address, mb_per_s=20)).address
        print(f"source capped at 20 MB/s per connection, {gib} GiB")
        samples = measure.interleave({name: bench.contender(name) for name in copiers()}, runs=runs, warm_up=False)
        return measure.comparison(samples, ours="ours")


def link(folder: Path, gib: float) -> str:
    """A 1 Gbit/s link between two network namespaces; needs root and iproute2."""
    names = ("rp-bench-a", "rp-bench-b")
    setup = [
        *(["ip", "netns", "add", name] for name in names),
        ["ip", "link", "add", "rpba", "netns", names[0], "type", "veth", "peer", "name", "rpbb", "netns", names[1]],
        ["ip", "-n", names[0], "addr", "add", "10.99.7.1/24", "dev", "rpba"],
        ["ip", "-n", names[1], "addr", "add", "10.99.7.2/24", "dev", "rpbb"],
        *(
            ["ip", "-n", name, "link", "set", device, "up"]
            for name, device in zip(names, ("rpba", "rpbb"), strict=True)
        ),
        *(["ip", "-n", name, "link", "set", "lo", "up"] for name in names),
        *(
            [
                "ip",
                "netns",
                "exec",
                name,
                "tc",
                "qdisc",
                "add",
                "dev",
                device,
                "root",
                "tbf",
                "rate",
                "1gbit",
                "burst",
                "128k",
                "latency",
                "50ms",
            ]
            for name, device in zip(names, ("rpba", "rpbb"), strict=True)
        ),
    ]
    program = find_peer("docker-registry") or "docker-registry"
    with ExitStack() as stack:
        stack.callback(lambda: [subprocess.run(["ip", "netns", "del", name], check=False) for name in names])
        for command in setup:
            subprocess.run(command, check=True, capture_output=True)
        target_root = folder / "link-target"
        target_root.mkdir()
        settings = target_root / "config.yml"
        settings.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {target_root}/data}}}}\n"
            "http: {addr: '10.99.7.2:5000'}\n"
        )
        remote = subprocess.Popen(
            ["ip", "netns", "exec", names[1], program, "serve", str(settings)], stderr=subprocess.DEVNULL
        )
        stack.callback(remote.wait)
        stack.callback(remote.terminate)
        layouts = folder / "link-source"
        size = push_image(Place(LayoutRegistry(layouts), "bench/image"), [int(gib * (1 << 30))])
        command = ["ip", "netns", "exec", names[0], sys.executable, "-c", LINK_OURS, str(layouts), "10.99.7.2:5000"]
        sample = measure.run([*command, str(folder / "link-state")], env={"PYTHONPATH": str(Path.cwd())})
    moved_s = float((folder / "link-state" / "seconds").read_text())
    rate = size * 8 / moved_s / 1e6
    return (
        f"{gib:g} GiB in {moved_s:.2f} s of copying ({sample.wall_s:.2f} s with the start of the process): "
        f"{rate:.0f} Mbit/s of content. What TCP carries over this qdisc is 955 to 965 Mbit/s."
    )


LINK_OURS = f"""
import sys, time
{BOTH}
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
layouts, target, state = sys.argv[1:]
began = time.monotonic()
copy_closure(Place(LayoutRegistry(Path(layouts)), 'bench/image'), 'v1',
             [Place(DistributionRegistry(target, plain_http=True), 'bench/image')], **keeping(Path(state)))
(Path(state) / 'seconds').write_text(str(time.monotonic() - began))
"""


def memory(folder: Path, sizes_gib: list[float]) -> str:
    rows = ["| largest layer | peak MB of the copying process |", "|---|---|"]
    for gib in sizes_gib:
        with ExitStack() as stack:
            path = folder / f"memory-{gib:g}"
            path.mkdir()
            bench = Bench(path, stack, tls=False)
            push_image(bench.place(bench.source_address, "bench/image"), [int(gib * 1e9)])
            bench.contender("ours")()
            # The kernel's own figure: a child's ru_maxrss begins with that of this process, which is larger.
            peak_kib = int((path / "state" / "peak").read_text())
            rows.append(f"| {gib:g} GB | {peak_kib / 1024:.0f} |")
            print(rows[-1], flush=True)
        shutil.rmtree(path)
    return measure.beside("\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--scenario", default="all", choices=["all", "single", "fixed", "capped", "fleet", "link", "memory"]
    )
    parser.add_argument("--against", metavar="PYTHON", help="compare with the build that this interpreter runs")
    parser.add_argument("--rounds", type=int, default=9, help="of --against (default %(default)s)")
    parser.add_argument("--gib", type=float, help="of the single image (default 4, with --against 1)")
    parser.add_argument("--capped-gib", type=float, default=1)
    parser.add_argument("--fleet-scale", type=float, default=1)
    parser.add_argument("--memory-gb", type=float, nargs="+", default=[0.1, 8])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm")
    parser.add_argument("--note", default="")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/transfer.md")
    options = parser.parse_args()
    options.gib = options.gib or (1 if options.against else 4)
    sections = [options.note] if options.note else []
    # An installed package is compiled; a checkout may not be, and would be anew in every run.
    HERE.compile()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="transfer-bench-") as name:
        folder = Path(name)
        if options.scenario == "fixed":
            other = Build(options.against) if options.against else None
            print(fixed(folder, options.gib, options.rounds if other else options.runs, other))
            return
        if options.against:
            print(against(folder, options.against, options.rounds, options.gib, options.fleet_scale))
            return

        def take(scenario: str, title: str, work: Callable[[], str]) -> None:
            if options.scenario in ("all", scenario):
                sections.extend([f"## {title}", work()])
                print(sections[-1], flush=True)

        for tls in (False, True):
            part = folder / ("tls" if tls else "plain")
            part.mkdir()
            title = (
                f"One image of {options.gib:g} GiB with one layer of three quarters, {'TLS' if tls else 'plain HTTP'}"
            )
            take("single", title, lambda part=part, tls=tls: single(part, options.gib, options.runs, tls=tls))
            shutil.rmtree(part)
        part = folder / "capped"
        part.mkdir()
        title = f"The source gives 20 MB/s per connection, {options.capped_gib:g} GiB"
        take("capped", title, lambda: capped(part, options.capped_gib, 1))
        shutil.rmtree(part)
        title = (
            f"Fleet: 60 images x 2 tags on 4 bases, sizes x {options.fleet_scale:g}; cold, targets behind 40 ms and "
            "40 MB/s; warm, straight at the registries"
        )
        take("fleet", title, lambda: fleet(folder, options.fleet_scale))
        take("link", "A link of 1 Gbit/s", lambda: link(folder, 1))
        take("memory", "Memory", lambda: memory(folder, options.memory_gb))
    if options.write:
        measure.write_page("transfer", "Copying images", "python benchmarks/transfer.py --write", *sections)


if __name__ == "__main__":
    main()
