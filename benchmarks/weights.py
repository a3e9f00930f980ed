"""Weights from a registry to an object store and back, over a link of a known rate.

    python benchmarks/weights.py [--gb 10] [--shards 40] [--gbit 1] [--write]

Registry and store are in a network namespace of their own behind a link of ``--gbit`` in each direction (tbf); needs
root. The store is a server of S3's API whose objects lie on a disk. *share* is the set's bytes over what the link could
have carried meanwhile; *anonymous* the most memory that our process had which is no file's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from registry_pipelines.stream.bench.link import ADDRESS, Link

ROOT = Path(__file__).parent.parent
OURS = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "weights"]
SYNC = """
import sys
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stores.store import open_store
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.weights.ends import from_registry, from_store
from registry_pipelines.weights.opening import open_weights
from registry_pipelines.weights.to_registry import register_weights
from registry_pipelines.weights.to_store import store_weights
way, registry, endpoint, state = sys.argv[1:]
store = open_store("s3://models/llama", region="us-east-1", endpoint=endpoint, lasting_uploads=True)
place, engine = Place(DistributionRegistry(registry, plain_http=True), "llama"), Engine(state=Path(state))
if way == "up":
    store_weights(from_registry(open_weights(place, "1")), store, engine=engine)
else:
    register_weights(from_store(store), place, "2", engine=engine)
"""
"""What `weights sync` does; the command line itself takes no endpoint without TLS that is not on this machine."""
LOGIN = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
SERVER = "from registry_pipelines.registry.embedded import EmbeddedServer as S; import sys\n"
SERVER += "with S(sys.argv[1], host=sys.argv[2]) as s: print(s.address, flush=True); sys.stdin.read()"
BLOCK = 1 << 20
POLL_S = 0.05


def make_model(folder: Path, gigabytes: float, shards: int) -> int:
    """Shards in GGUF's name of bytes that do not compress and that no two share; bytes of all."""
    folder.mkdir()
    size = int(gigabytes * 1e9 / shards)
    for number in range(shards):
        block = random.Random(number).randbytes(BLOCK)
        with (folder / f"model-{number + 1:05}-of-{shards:05}.gguf").open("wb") as file:
            file.write(b"GGUF" + number.to_bytes(8, "little"))
            for at in range(0, size - 12, BLOCK):
                file.write(block[: min(BLOCK, size - 12 - at)])
    return size * shards


@contextmanager
def serving(command: Sequence[str]) -> Iterator[str]:
    """A server in a process of its own; its address."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate()


def anonymous_mb(process: int) -> float:
    """Memory of a process that is no file's; 0 once it ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def timed(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds, and most anonymous megabytes."""
    peak = 0.0
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **LOGIN, "XDG_STATE_HOME": str(folder)},
    )
    assert process.stdout
    answer: list[str] = []
    reader = threading.Thread(target=lambda: answer.append(process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    while process.poll() is None:
        peak = max(peak, anonymous_mb(process.pid))
        time.sleep(POLL_S)
    reader.join()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{command[-3:]} ended with {process.returncode}: {answer[0][-2000:]}")
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--gbit", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weights-", dir=wanted.folder)))
        size = make_model(work / "model", wanted.gb, wanted.shards)
        link = stack.enter_context(Link(wanted.gbit * 1e9))
        inside, node = link.registry.enter, link.nodes[0].enter

        def server(root: Path) -> AbstractContextManager[str]:
            return serving(inside([sys.executable, "-c", SERVER, str(root), ADDRESS]))

        registry = stack.enter_context(server(work / "registry"))
        store = stack.enter_context(
            serving(inside([sys.executable, "-m", "tests.doubles.s3_files", str(work / "s3"), ADDRESS]))
        )
        places = {"bench": {"kind": "distribution", "host": registry, "plain_http": True}}
        (work / "registry-pipelines.yaml").write_text(json.dumps({"state": str(work / "state"), "registries": places}))

        def sync(way: str) -> tuple[float, float]:
            return timed(node([sys.executable, "-c", SYNC, way, registry, store, str(work / "state")]), ROOT)

        timed(node([*OURS, "push", str(work / "model"), "bench/llama:1", "--quiet"]), work)
        shutil.rmtree(work / "model")
        rows = {"registry to store": sync("up"), "the same, unchanged": sync("up")}
        shutil.rmtree(work / "registry")
        shutil.rmtree(work / "state")
        registry = stack.enter_context(server(work / "second"))
        rows["store to registry"] = sync("down")
    capacity = wanted.gbit * 1e9 / 8
    table = ["| way | s | MB/s | share of the link | anonymous MB |", "|---|---|---|---|---|"]
    for label, (seconds, peak) in rows.items():
        rate = size / seconds if "unchanged" not in label else 0.0
        table.append(f"| {label} | {seconds:.1f} | {rate / 1e6:.0f} | {rate / capacity:.0%} | {peak:.0f} |")
    text = f"{size / 1e9:.1f} GB in {wanted.shards} files, {wanted.gbit:g} Gbit/s each way.\n\n" + "\n".join(table)
    print(text)
    if wanted.write:
        measure.write_page("weights", "Weights between registries and stores", "python benchmarks/weights.py", text)


if __name__ == "__main__":
    main()
