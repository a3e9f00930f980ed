"""How long PyTorch takes to its first product on this machine's GPU, from an image behind a link of 1 Gbit/s.

    sudo .venv/bin/python benchmarks/gpu_start.py [--python /usr/bin/python3.12 --site-packages FOLDER] [--cpu]

One command, some five minutes: layers are made of the packages that are installed (nothing is downloaded), and the
image is started whole, lazily, from its hot pack and from local files. Needs root, iproute2, util-linux and /dev/fuse.
Without a GPU only with ``--cpu``, and what is printed says so.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.start_images import installed
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.link import missing_for_link
from registry_pipelines.stream.bench.preparing import OURS

WAYS = ("docker", "pull", "spans-fuse", "pack-fuse", "pack-fanotify", "local")
_ASK = "import json, torch; print(json.dumps([torch.__file__, torch.version.cuda, torch.cuda.is_available()]))"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="that has PyTorch (default: this one)"
    )
    parser.add_argument("--site-packages", type=Path, help="where PyTorch is installed; asked of --python unless told")
    parser.add_argument("--cpu", action="store_true", help="the product on the processor, for a machine without a GPU")
    parser.add_argument("--rounds", type=int, default=2, help="of all ways (default %(default)s)")
    parser.add_argument("--link", default="1", help="Gbit/s (default %(default)s)")
    parser.add_argument("--way", action="append", help=f"instead of {', '.join(WAYS)}")
    parser.add_argument("--work", type=Path, help="a folder with some 20 GB; a temporary one in /var/tmp unless told")
    parser.add_argument("--out", type=Path, help="a folder for the page, the pictures and the JSON")
    options = parser.parse_args(arguments)
    if problem := missing_for_link():
        raise SystemExit(problem)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # its folder goes all the same
    started = time.monotonic()
    site, told = _torch(options.python, options.site_packages, cpu=options.cpu)
    print(told, flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-start-", dir=options.work or "/var/tmp") as name:
        work = Path(name)
        with EmbeddedServer(work / "registry") as server:
            registry = DistributionRegistry(server.address, plain_http=True)
            place = Place(registry, "plain/image")
            program = installed(place, options.python, site, "torch", work, gpu=not options.cpu)
            print(f"image made after {time.monotonic() - started:.0f} s", flush=True)
            command = [*OURS, "stream", "bench", "start", f"{server.address}/plain/image:v1", "--work", str(work)]
            command += ["--rounds", str(options.rounds), "--link", options.link]
            command += [word for way in options.way or WAYS for word in ("--way", way)]
            command += ["--out", str(options.out)] if options.out else []
            code = subprocess.run(
                [*command, "--", program, "/app/matmul.py", "cpu" if options.cpu else "cuda"]
            ).returncode
            registry.close()
    print(f"all of it took {time.monotonic() - started:.0f} s", flush=True)
    sys.exit(code)


def _torch(python: Path, site: Path | None, *, cpu: bool) -> tuple[Path, str]:
    """The folder with PyTorch, and what it says of itself. Ends the program where there is none, or no GPU."""
    environment = {"PYTHONPATH": str(site)} if site else {}
    asked = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, env=environment, check=False)
    if asked.returncode:
        raise SystemExit(f"{python} has no PyTorch: {asked.stderr.strip().splitlines()[-1]}")
    file, cuda, gpu = json.loads(asked.stdout)
    if not gpu and not cpu:
        raise SystemExit(
            "PyTorch finds no GPU here; --cpu measures its product on the processor, which is another figure"
        )
    where = "on the processor: NO GPU WAS USED" if cpu else "on the GPU"
    return site or Path(file).parents[1], f"PyTorch for CUDA {cuda} in {Path(file).parents[1]}, its product {where}"


if __name__ == "__main__":
    main()
