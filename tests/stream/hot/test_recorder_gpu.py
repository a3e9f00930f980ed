"""``stream record --gpu``. The driver is files that are named as its own are, the device one of no use: none of this
was run on a GPU."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.recording import decode
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.lazy.test_gpu import driver
from tests.stream.lazy.test_rootless import Person

__all__ = ["driver"]

WITH_A_GPU = """
mkdir -p $1/dev
mount -t tmpfs none $1/dev
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty $1/dev/
mknod $1/dev/fuse c 10 229
mknod $1/dev/nvidia0 c 1 3
mount --bind $1/dev /dev
"""


def test_with_a_gpu_the_program_sees_device_and_driver_and_neither_is_recorded(driver: Path, tmp_path: Path) -> None:
    need_fuse()
    where = tmp_path / "files" / "one.rec"
    with EmbeddedServer(tmp_path / "registry") as server:
        registry = DistributionRegistry(server.address)
        image(Place(registry, "team/app"), tag="v1", more_mib=1)
        registry.close()
        person = Person(tmp_path, server.address, root=True)
        words = ("record", f"{server.address}/team/app:v1", "--to", str(where), "--until", "exit")
        script = ("--", "sh", "-c", "ls /dev; cat /usr/lib64/libcuda.so.1; sha256sum /data/0")
        code, _, errors = person.run(*words, "--gpu", *script, before=WITH_A_GPU)
        found = decode(where.read_bytes())
        assert code == 0 and "nvidia0" in errors and "libcuda.so" in errors and found.gpu
        paths = {file.path for file in found.files}
        assert "data/0" in paths and not any("cuda" in path or "nvidia" in path for path in paths)
        code, _, errors = person.run(*words, *script, before=WITH_A_GPU)
        assert code == 0 and "nvidia0" not in errors and "libcuda.so.1: No such file" in errors
