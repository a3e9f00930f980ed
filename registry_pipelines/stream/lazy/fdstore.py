"""Descriptors that systemd keeps for a unit while it is restarted (sd_notify(3), "FDSTORE=1"; sd_listen_fds(3)): those
of mounts, in pairs under one name.

Nothing happens where this process is no unit's, or its unit keeps none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

_DEVICE, _MEMORY = "device-", "memory-"
_FIRST = 3
_LISTENED = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def notify(text: str, numbers: tuple[int, ...] = ()) -> None:
    """Tell systemd, where it listens; what it does not take is lost."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.connect(address)
        socket.send_fds(told, [text.encode()], numbers)


def store(name: str, device: int, memory: int) -> None:
    """Have a mount kept. name: letters and digits. It is not watched there: each request of the kernel's would wake
    systemd."""
    for kind, number in ((_DEVICE, device), (_MEMORY, memory)):
        notify(f"FDSTORE=1\nFDNAME={kind}{name}\nFDPOLL=0", (number,))


def remove(name: str) -> None:
    """It is kept no more."""
    for kind in (_DEVICE, _MEMORY):
        notify(f"FDSTOREREMOVE=1\nFDNAME={kind}{name}")


def stored() -> Iterator[tuple[str, int, int]]:
    """Name, device and memory of each that was kept for this process; once."""
    pid, count, names = (os.environ.pop(each, "") for each in _LISTENED)
    if pid != str(os.getpid()) or not count.isdecimal():
        return
    found = dict(zip(names.split(":"), range(_FIRST, _FIRST + int(count)), strict=False))
    for number in found.values():
        with suppress(OSError):
            os.set_inheritable(number, False)
    for label, device in found.items():
        name = label.removeprefix(_DEVICE)
        if label.startswith(_DEVICE) and (memory := found.get(_MEMORY + name)) is not None:
            yield name, device, memory


__all__ = ["notify", "remove", "store", "stored"]
