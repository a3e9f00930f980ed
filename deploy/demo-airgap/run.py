"""``make demo-airgap``: images cross a gap as files, run behind it, and a receipt comes back.

The near side is this machine. The far side is a network of its own with nothing in it but loopback, so that no command
of it reaches anything here; only the folder that stands for a disk is there on both sides. That needs root, and so does
containerd, which then runs what crossed. Without root everything else is shown, and what is not is said.

    make demo-airgap                          in a temporary folder
    make demo-airgap ARGS="--keep DIR"        in DIR, which is new and stays
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP), str(HERE)]  # the doubles belong to the checkout, not to the package

import yaml  # noqa: E402
from picture import picture  # noqa: E402

import registry_pipelines  # noqa: E402
from registry_pipelines.registry.layout import LayoutRegistry  # noqa: E402
from registry_pipelines.registry.protocol import Place  # noqa: E402
from tests.build.wheels import make_wheel  # noqa: E402
from tests.doubles.containerd import Containerd, containerd  # noqa: E402
from tests.doubles.cut_off import CutOff, cut_off  # noqa: E402
from tests.stream.layers import pack  # noqa: E402
from tests.stream.lazy.parts import noise  # noqa: E402
from tests.stream.lazy.stacks import entry  # noqa: E402
from tests.stream.releases import Layer, program, push  # noqa: E402

PROGRAM = str(Path(sys.executable).with_name("registry-pipelines"))
DENIED = 3
RECORDS = 150
"""Advisories of the snapshot that the demonstration's set has: the whole takes a minute to read as YAML."""
OLD_BYTES, NEW_BYTES = 24_000_000, 8_000_000
"""Of the foreign image's two versions."""
APPLICATION = "import greeter\n\nprint('{} from behind the gap,', greeter.__name__, 'came along')\n"


class Demo:
    """folder: both sides' files, and the disk. network: the far side's, None without root."""

    def __init__(self, folder: Path, network: CutOff | None) -> None:
        self.folder, self.network = folder, network
        self.sizes: dict[str, int] = {}

    def near(self, title: str, *words: str, expect: int = 0) -> None:
        """A command of the near side."""
        self._step("near", title, [PROGRAM, *words, "--config", str(self.folder / "near.yaml")], words, expect)

    def far(self, title: str, *words: str, expect: int = 0) -> None:
        """A command of the far side, in its network."""
        command = [PROGRAM, *words, "--config", str(self.folder / "far.yaml")]
        self._step("far", title, self.network.command(*command) if self.network else command, words, expect)

    def _step(self, side: str, title: str, command: list[str], words: tuple[str, ...], expect: int) -> None:
        print(f"\n== {side}: {title}\n$ registry-pipelines {' '.join(words)}", flush=True)
        code = subprocess.run(command, cwd=self.folder, check=False).returncode
        if code != expect:
            raise SystemExit(f"demo-airgap: `{' '.join(words)}` ended with {code}, {expect} was expected")

    def change(self, name: str, old: str, new: str) -> None:
        """Edit a configuration, as a person does."""
        path = self.folder / name
        text = path.read_text()
        if old not in text:
            raise SystemExit(f"demo-airgap: {name} has no {old!r}")
        path.write_text(text.replace(old, new))
        print(f"\n== {name}: {old} becomes {new}", flush=True)


def say(text: str) -> None:
    """A line of the demonstration's own."""
    print(text, flush=True)


def size_of(folder: Path) -> int:
    """Bytes of a folder's files on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def prepare(folder: Path) -> None:
    """Configurations, an application, a wheel, and a foreign image in two versions."""
    for name in ("near.yaml", "far.yaml"):
        shutil.copyfile(HERE / name, folder / name)
    (folder / "application").mkdir()
    (folder / "application/app.py").write_text(APPLICATION.format("hello"))
    make_wheel(folder / "wheelhouse", "greeter", files={"greeter.py": b"WORD = 'hello'\n"})
    (folder / "requirements.txt").write_text("greeter==1.0\n")
    hub = Place(LayoutRegistry(folder / "near-state/registries/hub"), "library/greeting")
    for tag, size, day in (("1.0", OLD_BYTES, 1), ("2.0", NEW_BYTES, 2)):
        words = f"greetings {tag}, pulled as docker.io/library/greeting\n".encode()
        files = pack([entry("hello", content=program(words), mode=0o755)])
        data = pack([entry("data", content=noise(day, size))])
        layers = [Layer(gzip.compress(each, 1, mtime=0), each) for each in (files, data)]
        push(hub, *layers, tag=tag, config={"Cmd": ["/hello"]}, created=f"2026-11-{day:02}T00:00:00Z")
    write_advisories(folder / "PyPI-all.zip")


def write_advisories(target: Path) -> None:
    """A part of the snapshot that comes with the package, as OSV exports an ecosystem."""
    [snapshot] = (Path(registry_pipelines.__file__).parent / "data").glob("pypa-advisories-*.tar.gz")
    with tarfile.open(snapshot) as archive, zipfile.ZipFile(target, "w") as made:
        records = (member for member in archive if member.name.endswith(".yaml"))
        for _, member in zip(range(RECORDS), records, strict=False):
            content = archive.extractfile(member)
            record = yaml.load(io.BytesIO(content.read() if content else b""), yaml.CSafeLoader)
            made.writestr(f"{record['id']}.json", json.dumps(record, default=str))


def carry(demo: Demo, number: int) -> None:
    """One crossing: bundle, verify, load, receipt. Its size is kept."""
    disk = f"disk/{number}"
    back = demo.folder / "disk/receipt.json"
    known = ["--receipt", str(back.relative_to(demo.folder))] if back.exists() else []
    demo.near("gather in the DMZ what is to cross", "mirror", "airgap")
    demo.near(
        "write it to the disk, less what the far side confirmed" if known else "write all of it to the disk",
        *("bundle", "create", "airgap", "--to", disk, "--part-size", "20MB", *known),
    )
    demo.sizes[f"bundle {number}"] = sum(path.stat().st_size for path in (demo.folder / disk).iterdir())
    demo.far("read all that is on the disk, before anything is written", "bundle", "verify", disk)
    demo.far("load it: tags last", "bundle", "load", "airgap", disk)
    demo.far("what is here now, signed, for the way back", "bundle", "receipt", "airgap", "--to", "disk/receipt.json")


@contextmanager
def runtime(network: CutOff) -> Iterator[Containerd | None]:
    """containerd behind the gap; None where this machine has none."""
    program, client = shutil.which("containerd"), shutil.which("ctr")
    if program is None or client is None:
        say("\nNot shown: containerd is not installed, so nothing that crossed is run")
        yield None
        return
    programs = network.wrapped(program), network.wrapped(client)
    with tempfile.TemporaryDirectory(prefix="ctrd-") as folder, containerd(*programs, Path(folder)) as ctr:
        yield ctr


def run_behind(demo: Demo, ctr: Containerd | None, *references: str) -> None:
    """Pull by name, and start; a registry serves meanwhile."""
    if demo.network is None or ctr is None:
        return
    serving = demo.network.command(PROGRAM, "serve", "--config", str(demo.folder / "far.yaml"))
    with subprocess.Popen(serving, cwd=demo.folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is not None:
                process.stdout.readline()  # it listens by then
            for reference in references:
                say(f"\n== far: containerd pulls {reference} and starts it, in a network without a route")
                options = ["--hosts-dir", str(demo.folder / "certs.d")]
                ctr("images", "pull", *(options if reference.startswith("docker.io") else ["--plain-http"]), reference)
                say(ctr("run", "--rm", "--net-host", reference, "demo").rstrip())
        finally:
            process.terminate()


def crossing(demo: Demo, ctr: Containerd | None) -> None:
    """Two bundles, the second after a change of one line."""
    for side in ("near", "far"):
        command = [PROGRAM, "sign", "--generate-key", "--key", f"{side}.key", "--quiet"]
        subprocess.run(command, cwd=demo.folder, check=True, capture_output=True)
    say("Both sides have a key, and each has the other's public one: that is all they ever tell each other beforehand.")
    demo.near("advisories that somebody fetched", "advisories", "import", "PyPI=PyPI-all.zip")
    demo.near("advisories cross as an artifact, signed by the scanner", "advisories", "push", "dmz/advisories")
    demo.near("so do the wheels of a build", "wheels", "push", "dmz/wheels", "--requirements", "requirements.txt",
              "--wheels", "wheelhouse")  # fmt: skip
    demo.near("build, scan, sign, judge, promote", "ship", "forecaster", "--until", "promote")
    demo.near("the release may cross: it was promoted", "mirror", "airgap", "--release", "forecaster:v1.0.0")
    carry(demo, 1)
    demo.far("files by which nodes find docker.io/library/greeting here", "mirror", "clusters", "airgap",
             "--form", "hosts-toml", "--to", "certs.d")  # fmt: skip
    own = "127.0.0.1:5811/in/ml/forecaster"
    run_behind(demo, ctr, "docker.io/library/greeting:1.0", f"{own}:v1.0.0")
    demo.far("scan with what came along", "advisories", "pull", "private/in/advisories")
    demo.far("build of wheels that came along: no index answers here", "build", "local")

    (demo.folder / "application/app.py").write_text(APPLICATION.format("good morning"))
    demo.change("near.yaml", "version: v1.0.0", "version: v1.0.1")
    demo.near("one line of code changed: the next release", "ship", "forecaster", "--until", "promote")
    demo.near("it crosses, too", "mirror", "airgap", "--release", "forecaster:v1.0.1")
    carry(demo, 2)
    run_behind(demo, ctr, f"{own}:v1.0.1")
    demo.near("what was made, and what the far side confirmed", "bundle", "list", "airgap")


def letting_go(demo: Demo, ctr: Containerd | None) -> None:
    """A plan sets an image aside, undo brings it back, and another one frees its bytes."""
    root = demo.folder / "far-state/registries/private"
    demo.far("what the rule lets go, and why", "collect", "plan", "private", "--save", "plan.json")
    demo.far("somebody approved that plan", "collect", "apply", "private", "plan.json")
    demo.far("it is set aside", "collect", "quarantined", "private")
    demo.far("it was needed after all", "collect", "undo", "private", "in/docker.io/library/greeting:1.0")
    run_behind(demo, ctr, "docker.io/library/greeting:1.0")
    demo.change("far.yaml", "quarantine: 14", "quarantine: 0")
    demo.sizes["registry before"] = size_of(root)
    demo.far("now it may go for good", "collect", "apply", "private", "--now")
    demo.far("what nothing refers to any more is freed", "collect", "garbage", "private", "--unused", "0s")
    demo.sizes["registry after"] = size_of(root)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Images cross a gap as files.")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there, and leave it")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the sizes as SVG")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="registry-pipelines-gap-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SystemExit(f"demo-airgap: {folder} is not empty; name a new folder, or none")
        prepare(folder.absolute())
        network = stack.enter_context(cut_off()) if os.geteuid() == 0 and shutil.which("unshare") else None
        if network is None:
            say("Not shown without root: a network without a route, and containerd that runs what crossed")
        else:
            routes = network.run("ip", "route").stdout.strip()
            say(f"The far side's routes: {routes or 'none'}")
        ctr = stack.enter_context(runtime(network)) if network else None
        demo = Demo(folder.absolute(), network)
        crossing(demo, ctr)
        letting_go(demo, ctr)
        say("")
        for what, size in demo.sizes.items():
            say(f"{what:<18}{size / 1e6:>10.1f} MB")
        if options.picture:
            options.picture.write_text(picture(demo.sizes))


if __name__ == "__main__":
    main()
