"""Agents in processes of their own, which end and are killed while others read what they mounted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from registry_pipelines.node.lazy_images import IMAGE_LABEL, MANIFEST_LABEL
from registry_pipelines.stream.lazy.mounting import EROFS_KIND, KIND, end_mount, mounts
from tests.evidence.parts import Key
from tests.patience import patient

REFERENCE = "registry.example/team/app:v1"

SERVING = f"""
import sys
from pathlib import Path
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.node.images import NodeImages
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
address, state, key, digest, patience, carrier, *chain_ids = sys.argv[1:]
place = Place(DistributionRegistry(address), "team/app")
log = lambda line: print(line, file=sys.stderr, flush=True)
with NodeImages(
    lambda _: place, state=Path(state), verifier=load_verifier([Path(key)]), log=log, fill=False, wait_s=600,
    end_mounts=False, patience_s=float(patience), carrier=carrier,
) as images:
    found = None
    for chain_id in chain_ids:
        found = images.find({{"{IMAGE_LABEL}": "{REFERENCE}", "{MANIFEST_LABEL}": digest}}, chain_id)
        print(found.mount(chain_id), flush=True)
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "release\\n":
            found.release()
        print("done", flush=True)
"""
"""One agent. It ends when its input does, and leaves what is mounted to the next."""


def keepers(folder: Path, program: str = "lazy.keeper") -> list[int]:
    """The processes that keep the mounts of an agent with its state below a folder: one, and its twin, older first; of
    mounts by fanotify (lazy.holder) two for each."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            ours = any(each.startswith(os.fsencode(folder) + b"/") for each in words)
            if ours and any(program.encode() in each for each in words):
                since = int(path.with_name("stat").read_text().rpartition(")")[2].split()[19])  # numbers begin anew
                found.append((since, int(path.parent.name)))
    return [process for _, process in sorted(found)]


def in_use_elsewhere(folder: Path) -> bool:
    """Whether another namespace of mounts has a copy of what was mounted below a folder: one that another test made
    meanwhile. It uses the mount until it ends."""
    below = os.fsencode(folder) + b"/"
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            if below in path.read_bytes():
                return True
    return False


class Lives:
    """One agent after the other, of one image."""

    def __init__(
        self, state: Path, address: str, key: Key, digest: str, *, patience_s: float = 60.0, carrier: str = "fuse"
    ) -> None:
        self.state, self._log = state, state.parent / "agents.log"
        self._words = [address, str(state), str(key.public), digest, str(patience_s), carrier]
        self.process: subprocess.Popen[str] | None = None

    def begin(
        self, *chain_ids: str, before: str = "", through: Sequence[str] = (), fds: Sequence[int] = ()
    ) -> list[Path]:
        """Where the layers are mounted, in the order of their chain IDs. before: what is run first in its process.
        through: the program that starts it."""
        self._start(*chain_ids, before=before, through=through, fds=fds)
        found: list[Path] = []
        while (line := self._line()) != "ready":
            found.append(Path(line))
        return found

    def _start(self, *chain_ids: str, before: str = "", through: Sequence[str] = (), fds: Sequence[int] = ()) -> None:
        command = [*through, sys.executable, "-c", before + SERVING, *self._words, *chain_ids]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, pass_fds=fds
            )

    def kill_at_start(self, *chain_ids: str, after_s: float, before: str = "") -> None:
        """Begin, and be killed before it is known how far it came."""
        self._start(*chain_ids, before=before)
        time.sleep(after_s)
        self.kill()

    def tell(self, what: str) -> None:
        """And wait until it is done."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self._line() == "done"

    def kill(self) -> None:
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        self._over()

    def end(self) -> None:
        """It hands over."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.close()
        assert self._over() == 0, self.said()

    def keepers(self) -> list[int]:
        """See :func:`keepers`."""
        return keepers(self.state)

    def kill_keeper(self, which: int) -> None:
        with suppress(IndexError, ProcessLookupError):  # it begins another one just now
            os.kill(self.keepers()[which], signal.SIGKILL)

    def said(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for each in [
            each.folder for each in mounts() if each.kind in (KIND, EROFS_KIND) and self.state in each.folder.parents
        ]:
            end_mount(each)
        until = time.monotonic() + patient(30)
        while left := self.keepers():
            if in_use_elsewhere(self.state):  # rightly kept; nobody may find it there when the folder is gone
                for each in left:
                    with suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
            assert time.monotonic() < until, "what kept mounts is still there"
            time.sleep(0.02)

    def _line(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said()
        return line.rstrip("\n")

    def _over(self) -> int:
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        code = self.process.wait(patient(30))
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        return code


__all__ = ["REFERENCE", "Lives", "in_use_elsewhere", "keepers"]
