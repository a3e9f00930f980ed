"""A process that fills a mounted file, to be killed: what it is asked for comes when the test lets it.

Arguments: the folder with ``content``, seconds for which a holder waits for another, ``complete`` for one that copies
everything, ``apart`` for one that has a process beside it to answer at once. What is read is there once ``go`` is in
the folder.
"""

from __future__ import annotations

import stat
import sys
import time
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.lazy.answering import Apart
from registry_pipelines.stream.lazy.backing import BackingStore
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.carriers import free_folder
from registry_pipelines.stream.lazy.fanotify import WatchedMount
from registry_pipelines.stream.lazy.tree import ROOT, Inode, Tree, TreeWriter


def one_file(size: int) -> Tree:
    """A tree with a file that is its whole layer."""
    writer = TreeWriter(1)
    top = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 2, 0, 0, 0, b"", {})
    writer.add(top, ROOT)
    file = writer.add(top._replace(mode=stat.S_IFREG | 0o644, nlink=1, size=size), ROOT)
    writer.children(ROOT, [(b"file", file)])
    return writer.finish()


def main(folder: Path, patience_s: float, *words: str) -> None:
    content, top = (folder / "content").read_bytes(), folder / "top"
    taken = free_folder(top, folder)
    layer = BlockStore(folder / "blocks").open(Digest.of(content), len(content))

    def fill(start: int, stop: int) -> None:
        (folder / "asked").touch()
        while not (folder / "go").exists():
            time.sleep(0.002)
        layer.put(start, content[start:stop])
        layer.mark(start, stop)

    layer.fill = fill
    if "complete" in words:
        fill(0, len(content))
    store, tree = BackingStore(folder / "backing"), one_file(len(content))
    file = store.adopt(tree, [layer], taken.held.data, taken.held.filling) if taken else store.open(tree, [layer])
    assert file is not None
    mount = WatchedMount(
        file,
        top,
        log=print,
        sockets=folder / "holders",
        patience_s=patience_s,
        taken=taken,
        told="told",
        apart=Apart(top) if "apart" in words and not taken else None,
    )
    if "complete" in words:
        mount.fill_rest()
    print("mounted", flush=True)
    mount.run()
    mount.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
