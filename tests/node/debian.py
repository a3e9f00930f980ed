"""A Debian of its own, booted by its own systemd: its processes, mounts and units are its own, network and kernel the
machine's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.needs import missing
from tests.patience import patient

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
BOOT = """\
set -e
mount --bind {root} {root}
cd {root}
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
mkdir -p .old
pivot_root . .old
umount -l /.old
mount --make-rshared /
exec env -i container=tests PATH={path} /lib/systemd/systemd --system --unit=multi-user.target
"""
"""In namespaces of its own. ``container`` tells systemd to leave the machine's kernel alone."""


RUNC = """\
#!/usr/bin/python3
import json, os, sys
words = sys.argv[1:]
if "create" in words and "--bundle" in words:
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(path) as file:
        spec = json.load(file)
    spec["linux"].get("resources", {}).pop("cpu", None)
    with open(path, "w") as file:
        json.dump(spec, file)
found = next(path for path in ("/usr/sbin/runc", "/usr/bin/runc") if os.path.exists(path))
os.execv(found, ["runc", *words])
"""
"""Where the machine keeps the controller of processor time in a hierarchy of version 1, a node on it has none, and runc
cannot set the share that `ctr run` asks for."""


def made(folder: Path, release: str, debootstrap: str, mirror: str) -> Path:
    """The root folder of an empty node: Debian with systemd, and nothing else. Needs root."""
    if os.geteuid() != 0:
        missing("only root can make another system")
    more = "--include=systemd,systemd-sysv,dbus,ca-certificates"
    command = [debootstrap, "--variant=minbase", more, release, str(folder), mirror]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    # As this machine reaches the mirror and the index.
    shutil.copy(Path("/") / CERTIFICATES, folder / CERTIFICATES)
    for name in ("getty.target", "console-getty.service", "systemd-logind.service"):
        (folder / "etc/systemd/system" / name).symlink_to("/dev/null")  # terminals are the machine's
    return folder


class Node:
    """One that runs."""

    def __init__(self, process: int) -> None:
        self._process = process

    def path(self, path: str) -> Path:
        """Of its file, as this machine sees it."""
        return Path(f"/proc/{self._process}/root{path}")

    def run(self, command: str, *, check: bool = True) -> str:
        """A shell's line, as root; what it prints."""
        words = ["nsenter", "-t", str(self._process), "-m", "-p", "-u", "-i", "-C"]
        words += ["env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "sh", "-c", command]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=patient(600))
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout


@contextmanager
def booted(root: Path) -> Iterator[Node]:
    """Until the block ends; then all of its processes end, and with them its mounts."""
    group = Path("/sys/fs/cgroup/unified" if Path("/sys/fs/cgroup/unified").is_dir() else "/sys/fs/cgroup")
    group /= f"tests-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        controllers = (group / "cgroup.controllers").read_text().split()
    except OSError as error:
        missing(f"systemd needs a control group of version 2: {error}")
    if "cpu" not in controllers:
        (root / "usr/local/sbin/runc").write_text(RUNC)
        (root / "usr/local/sbin/runc").chmod(0o755)
    namespaces = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--propagation", "private"]
    script = f'echo $$ >{group}/cgroup.procs; exec unshare --kill-child {" ".join(namespaces)} sh -c "$0"'
    process = subprocess.Popen(
        ["sh", "-c", script, BOOT.format(root=root, path=PATH)], stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield Node(_first_process(process))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(patient(30))
        _remove(group)


def _first_process(process: subprocess.Popen[bytes]) -> int:
    """Of the namespace, once it answers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + patient(60)
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            for number in map(int, children.read_text().split()):
                state = Node(number).run("systemctl is-system-running", check=False).strip()
                if state in ("running", "degraded"):
                    return number
        time.sleep(0.2)
    process.kill()
    raise AssertionError("systemd did not come up")


def _remove(group: Path) -> None:
    """With those below: systemd made some."""
    deadline = time.monotonic() + patient(30)
    while time.monotonic() < deadline:
        for path in sorted(group.rglob("*"), key=lambda each: -len(each.parts)):
            if path.is_dir():
                with suppress(OSError):
                    path.rmdir()
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)
