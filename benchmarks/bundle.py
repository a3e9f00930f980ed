"""A bundle made and loaded, beside tar and one SHA-256 over the same bytes, which is the least that anybody would do.

    python benchmarks/bundle.py [--megabytes 2000] [--layer-megabytes 400] [--runs 3] [--write]

The near side is an embedded registry in a process of its own, and a folder; all is on one file system. ``tar`` reads
that folder's blobs. Ours writes the parts as well, and hashes each byte twice (as a blob, and as a part): a second
baseline writes the tar, too. Loading verifies every part first, then copies into a fresh folder, and reads it back.
Content is random, so nothing is compressed by anybody. coreutils' ``sha256sum`` may know nothing of the processor's own
instructions; ``openssl`` does, and both are shown. Where other work keeps the machine busy, CPU seconds are the figures
to compare: many threads wait longer for a turn than one.
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import MIB, Sample, comparison, interleave, run, write_page
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, encode_json, manifest_bytes
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.layout import LayoutRegistry
from tests.ports import free_ports

PROGRAM = [str(Path(sys.executable).with_name("registry-pipelines"))]
CONFIG = """
state: {root}/state-{side}
registries:
  dmz: {{kind: {kind}}}
  private: {{kind: layout, root: {root}/private}}
mirrors:
  models: {{{mirror}}}
signing: {{promoter: {{key: {root}/{side}.key}}}}
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--megabytes", type=int, default=2000)
    options.add_argument("--layer-megabytes", type=int, default=400)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--write", action="store_true")
    options.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.fill:
        fill(chosen.fill, chosen.megabytes, chosen.layer_megabytes)
        return
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        bench = Bench(Path(folder))
        # In a process of its own, whose memory is not what the others are measured against.
        sizes = ["--megabytes", str(chosen.megabytes), "--layer-megabytes", str(chosen.layer_megabytes)]
        subprocess.run([sys.executable, __file__, "--fill", str(bench.dmz), *sizes], check=True)
        served = bench.serve()
        try:
            made = interleave(bench.making(), runs=chosen.runs)
            bench.one_bundle()
            loaded = interleave(bench.loading(), runs=chosen.runs)
        finally:
            served.terminate()
            served.wait()
        title = f"{chosen.megabytes} MB in layers of {chosen.layer_megabytes} MB"
        sections = [
            f"## A bundle is made: {title}\n\n{comparison(made, ours='bundle create, folder')}",
            f"## It is loaded\n\n{comparison(loaded, ours='bundle load')}",
        ]
    command = f"python benchmarks/bundle.py --megabytes {chosen.megabytes} --runs {chosen.runs} --write"
    if chosen.write:
        print(
            write_page("bundle", "Bundles across an air gap", command, __doc__.split("\n\n", 2)[2].strip(), *sections)
        )
    else:
        print("\n\n".join(sections))


def fill(folder: Path, megabytes: int, layer_megabytes: int) -> None:
    """One image with so many bytes in layers."""
    registry, source = LayoutRegistry(folder), random.Random(1)
    layers = []
    for size in [layer_megabytes * 1_000_000] * (megabytes // layer_megabytes):
        content = b"".join(source.randbytes(min(MIB, size - at)) for at in range(0, size, MIB))
        layers.append(Descriptor(media_type=media_types.OCI_LAYER, digest=Digest.of(content), size=size))
        registry.upload_blob("models/big", layers[-1], BytesSource(content))
    empty = encode_json({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    config = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(empty), size=len(empty))
    registry.upload_blob("models/big", config, BytesSource(empty))
    manifest = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=tuple(layers))
    registry.put_manifest("models/big", manifest_bytes(manifest), tag="1")


class Bench:
    """Folders, keys and configurations of both sides below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root, self.dmz, self.disk = root, root / "dmz", root / "disk"
        for side in ("near", "far"):
            generate_key(root / f"{side}.key")
        [self.port] = free_ports(1)
        takes = "via: dmz, to: private, across: bundle, artifacts: ['dmz/models/big:1'], bundle: {receipts: [%s]}"
        self._config("near", f"layout, root: {self.dmz}", takes % (root / "far.pub"))
        self._config("served", f"embedded, port: {self.port}, root: {self.dmz}", takes % (root / "far.pub"))
        shutil.copy(root / "near.key", root / "served.key")
        shutil.copy(root / "near.pub", root / "served.pub")
        loads = f"to: private, across: bundle, bundle: {{signers: [{root}/near.pub]}}"
        self._config("far", f"layout, root: {root}/unused", loads)

    def _config(self, side: str, kind: str, mirror: str) -> None:
        text = CONFIG.format(root=self.root, side=side, kind=kind, mirror=mirror)
        (self.root / f"{side}.yaml").write_text(text)

    def serve(self) -> subprocess.Popen[bytes]:
        command = [*PROGRAM, "serve", "--config", str(self.root / "served.yaml")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return process
            time.sleep(0.1)
        raise RuntimeError("the registry does not listen")

    def making(self) -> dict[str, Callable[[], Sample]]:
        blobs = shlex.quote(str(self.dmz))
        return {
            "bundle create, folder": lambda: self._create("near"),
            "bundle create, registry": lambda: self._create("served"),
            "tar to sha256sum": lambda: self._shell(f"tar -C {blobs} -cf - . | sha256sum"),
            "tar to openssl sha256": lambda: self._shell(f"tar -C {blobs} -cf - . | openssl dgst -sha256"),
            "tar, written, to openssl": lambda: self._shell(
                f"tar -C {blobs} -cf - . | tee {shlex.quote(str(self.disk))} | openssl dgst -sha256 && sync {self.disk}"
            ),
        }

    def _create(self, side: str) -> Sample:
        self._clear()
        command = [*PROGRAM, "bundle", "create", "models", "--to", str(self.disk), "--part-size", "700MB", "--quiet"]
        return run([*command, "--restart", "--config", str(self.root / f"{side}.yaml")])

    def _shell(self, line: str) -> Sample:
        self._clear()
        return run(["bash", "-o", "pipefail", "-c", line])

    def _clear(self) -> None:
        for path in (self.disk, self.root / "private", self.root / "state-far"):
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)

    def one_bundle(self) -> None:
        self._create("near")
        self.disk.rename(self.root / "crossed")

    def loading(self) -> dict[str, Callable[[], Sample]]:
        crossed = shlex.quote(str(self.root / "crossed"))
        return {
            "bundle load": self._load,
            "bundle verify": lambda: run(
                [*PROGRAM, "bundle", "verify", str(self.root / "crossed"), "--config", str(self.root / "far.yaml")]
            ),
            "cat to sha256sum": lambda: self._shell(f"cat {crossed}/*.part* | sha256sum"),
            "cat to openssl sha256": lambda: self._shell(f"cat {crossed}/*.part* | openssl dgst -sha256"),
            "hashed, then tar x and hashed": lambda: self._shell(
                f"cat {crossed}/*.part* | openssl dgst -sha256 && mkdir -p {self.disk} && "
                f"cat {crossed}/*.part* | tar -C {self.disk} -xf - && openssl dgst -sha256 {self.disk}/blobs/sha256/*"
            ),
        }

    def _load(self) -> Sample:
        self._clear()
        command = [*PROGRAM, "bundle", "load", "models", str(self.root / "crossed"), "--quiet"]
        return run([*command, "--config", str(self.root / "far.yaml")])


if __name__ == "__main__":
    main()
