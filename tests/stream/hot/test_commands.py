"""``stream pack`` as it is typed, and a program that starts from what it makes."""

from __future__ import annotations

import shutil
from pathlib import Path

from registry_pipelines.oci.platforms import Platform
from registry_pipelines.stream.hot.recording import RecordedFile, Recording, encode
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.lazy.opened import open_image
from tests.answers import answered
from tests.stream.lazy.mounts import need_fanotify
from tests.stream.lazy.test_commands import Node, node

__all__ = ["node"]


def everything_but_data(node: Node) -> Recording:
    """All files of an image's programs and settings."""
    state = node.folder / "state"
    files = []
    with open_image(node.place, "v1", state=state, verifier=node.key.verifier, log=print) as image:
        waiting = [("", 1)]
        while waiting:
            above, directory = waiting.pop()
            for name, number in image.children(directory):
                path = above + name.decode()
                found = image.node(number)
                if image.children(number):
                    waiting.append((path + "/", number))
                elif found.size and found.mode >> 12 == 8 and not path.startswith("data/"):
                    files.append(RecordedFile(path, found.size))
    digest = image_for(node.place, "v1", Platform.here()).descriptor.digest
    touches = tuple((number, 0, -(-file.size // 4096)) for number, file in enumerate(files))
    return Recording(image=digest, files=tuple(files), touches=touches)


def test_a_program_starts_from_a_pack_alone(node: Node, tmp_path: Path) -> None:
    reference = node.image("v1")
    (tmp_path / "start.rec").write_bytes(encode(everything_but_data(node)))
    signer = ("--key", str(node.key.path))
    code, output, _ = node.run("pack", reference, "--recording", "start.rec", *signer, "--json")
    made = answered(output)
    assert code == 0 and made["changed"] and made["facts"]["pages_found"] == made["facts"]["pages"] > 100
    node.faults.reset_counts()
    code, output, errors = node.run("run", reference, *node.believed, "--no-fill")
    assert (code, output) == (0, "hello\n") and "by pack" in errors and "by pieces" not in errors
    assert "lazy: yes, from the hot pack" in errors
    size, got = made["facts"]["pack_bytes"], sum(each.bytes_down for each in node.faults.requests("GET", ".*/blobs/.*"))
    assert size <= got < size + 30_000
    code, _, errors = node.run("run", reference, *node.believed, "--no-fill", "--no-pack")
    assert code == 0 and "by pack" not in errors
    code, output, _ = node.run("check", reference, *node.believed, "--json")
    [told] = answered(output)["tables"]["packs"]
    assert (told["state"], told["pages_found"]) == ("fresh", 1.0)
    assert "signed, cut from a start of this image" in node.run("check", reference, *node.believed)[1]
    code, _, errors = node.run("pack", reference, *signer)
    assert code == 8 and f"`registry-pipelines stream record {reference}`" in errors
    shutil.rmtree(node.folder / "state" / "registry-pipelines" / "lazy")
    need_fanotify(tmp_path)
    code, output, errors = node.run("run", reference, *node.believed, "--no-fill", "--carrier", "fanotify")
    assert (code, output) == (0, "hello\n") and "by pack" in errors and "by pieces" not in errors
