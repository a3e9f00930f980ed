"""A drain: what runs is fetched whole and goes on, what comes is pulled as usual, and a new agent begins without."""

from __future__ import annotations

import json
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.errors import LocalError
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.images import NodeImages
from registry_pipelines.node.lazy_images import IMAGE_LABEL, MANIFEST_LABEL, REF_LABEL
from registry_pipelines.node.serving import served
from registry_pipelines.node.status import read_status
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.stream.lazy.mounting import end_mount
from tests.evidence.parts import Counted, Key
from tests.needs import needed_module
from tests.node.test_images import REFERENCE, chain, ours
from tests.node.test_service import Client
from tests.patience import patient, until
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer


def drain(root: Path, *words: str) -> Result:
    limit = () if "--timeout" in words else ("--timeout", str(patient(20)))
    return CliRunner().invoke(main, ["node", "drain", "--root", str(root), *words, *limit])


def pulled(client: Client, release: Descriptor, ids: tuple[str, ...], key: str) -> str:
    """As containerd pulls an image that is served: the name of its topmost layer's snapshot."""
    parent = ""
    for chain_id in ids:
        labels = {REF_LABEL: chain_id, IMAGE_LABEL: REFERENCE, MANIFEST_LABEL: str(release.digest)}
        client.refused("ALREADY_EXISTS", "prepare", f"{key} {chain_id}", parent, **labels)
        [parent] = client.names(f'labels."{REF_LABEL}"=={chain_id},parent=="{parent}"')
    return parent


def test_what_runs_comes_whole_and_what_comes_is_pulled(counted: Counted, streamer: Streamer, key: Key) -> None:
    needed_module("grpc", "node")
    need_fuse()
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    ids = chain(counted.place, release)
    said: list[str] = []
    counts = Counts()
    with tempfile.TemporaryDirectory(prefix="node-") as name, ExitStack() as undo:
        folder = Path(name)
        undo.callback(lambda: [end_mount(each) for each in ours(folder)])  # whatever fails, nobody waits for it
        root, state = folder / "node", folder / "state"
        more: dict[str, Any] = {
            "state": state,
            "verifier": key.verifier,
            "log": said.append,
            "fill": False,
            "wait_s": patient(60),
        }
        with NodeImages(lambda reference: counted.place, counts=counts, end_mounts=False, **more) as images:
            with served(
                folder / "s", root, log=said.append, lazy=images, counts=counts, lazy_state=state / "lazy"
            ) as reporter:
                client = Client(folder / "s")
                top = pulled(client, release, ids, "extract")
                client.prepare("run", top)
                until(lambda: bool(reporter.now().images[0].mounts))
                [before] = reporter.now().images[0].mounts
                assert before.filled_bytes < before.size_bytes and reporter.now().images[0].containers == ["run"]

                slow = drain(root, "--timeout", "0", "--json")
                assert slow.exit_code == 1 and not json.loads(slow.stdout)["result"]["reached"]
                filled = drain(root, "--until", "filled")
                assert filled.exit_code == 0, filled.output
                [after] = reporter.now().images[0].mounts
                assert after.filled_bytes == after.size_bytes and after.failed_reads == 0
                client.prepare("more", top)  # of what is here
                labels = {REF_LABEL: ids[0], IMAGE_LABEL: REFERENCE, MANIFEST_LABEL: str(release.digest)}
                assert client.prepare(f"extract again {ids[0]}", "", **labels), "it would be served"
                assert counts.value("fallbacks", reason="draining") == 1

                until(lambda: len(read_status(root).status.images[0].containers) == 2)
                unused = drain(root, "--timeout", "0")
                assert unused.exit_code == 1 and "2 containers of images that are served" in unused.output
                waiting = threading.Timer(0.3, lambda: [client.remove(each) for each in ("run", "more")])
                waiting.start()
                done = drain(root)
                assert done.exit_code == 0 and "drained" in done.output
                assert ours(folder), "it stays mounted until the agent ends"
            assert read_status(root).status.drain is not None
        assert not ours(folder)

        gone = drain(root)
        assert gone.exit_code == LocalError.exit_code and "does not run" in gone.output
        with (
            NodeImages(lambda reference: counted.place, counts=counts, **more) as images,
            served(folder / "s", root, log=said.append, lazy=images, counts=counts, lazy_state=state / "lazy") as again,
        ):
            assert again.now().drain is None
            client = Client(folder / "s")
            client.refused("ALREADY_EXISTS", "prepare", f"and again {ids[0]}", "", **labels)
            assert drain(root, "--until", "filled").exit_code == 0
            assert client.prepare(f"extract third {ids[0]}", "", **labels)
            undone = drain(root, "--undo")
            assert undone.exit_code == 0 and "not being drained" in undone.output
            client.refused("ALREADY_EXISTS", "prepare", f"and once more {ids[0]}", "", **labels)
