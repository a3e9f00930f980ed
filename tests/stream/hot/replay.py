"""A process that starts an image of which only what a recording lists can be read: ``replay.py ADDRESS TAG FILE
FOLDER``. Prints what the program prints, and ends as it does."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.recorder import RecordedTree
from registry_pipelines.stream.hot.recording import PAGE_BYTES, decode
from registry_pipelines.stream.lazy.fuse import FuseServer
from registry_pipelines.stream.lazy.mounting import end_mount, mount_fuse
from registry_pipelines.stream.lazy.opened import OpenImage, open_image
from registry_pipelines.stream.lazy.program_root import writable_root
from registry_pipelines.stream.lazy.running import Started, program_of


class OnlyThese(RecordedTree):
    """An image without what a recording does not list."""

    def __init__(self, image: OpenImage, listed: dict[int | None, set[int]]) -> None:
        super().__init__(image)
        self._listed = listed

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        wanted = range(offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES))
        if not self._listed.get(number, set()).issuperset(wanted):
            raise LayerInvalid(f"{self.node(number)}: {wanted} is not in the recording")
        return super().view(number, offset, size)


def main(address: str, tag: str, file: str, where: str) -> int:
    started = Started()
    recording, folder = decode(Path(file).read_bytes()), Path(where)
    place = Place(DistributionRegistry(address), "team/app")
    with open_image(place, tag, state=folder, log=print) as image:
        listed: dict[int | None, set[int]] = {}
        for each, first, count in recording.touches:
            listed.setdefault(image.find(recording.files[each].path), set()).update(range(first, first + count))
        for name in ("image", "run"):
            (folder / name).mkdir()
        device = mount_fuse(folder / "image", "replay")
        server = FuseServer(device, OnlyThese(image, listed), read_ahead_bytes=PAGE_BYTES)
        threading.Thread(target=server.run, daemon=True).start()
        with writable_root(folder / "image", folder / "run", image.kinds, print) as root:
            started.start(program_of(image.config, (), None), root, piped=True)
            while piece := os.read(started.output, 1 << 16):
                os.write(1, piece)
            code = started.wait()
        end_mount(folder / "image")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
