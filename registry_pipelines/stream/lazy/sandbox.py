"""What a program may not that is run before anybody knows it: recordings run images that others built.

It has a network of its own with nothing in it but itself, no more capabilities than an entrypoint needs that changes
its user, no way to get any (no_new_privs), no terminal, no system calls that reach what is nobody's own (``seccomp``),
and limits of each process. Those of all together are ``limits``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import struct

import msgspec

from registry_pipelines.stream.lazy.namespaces import check
from registry_pipelines.stream.lazy.seccomp import forbid_calls

NAMESPACES = 0x40000000 | 0x4000000 | 0x2000000
"""Network, host name and control groups (CLONE_NEWNET, CLONE_NEWUTS, CLONE_NEWCGROUP)."""

FEW_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 18)
"""By number, of Docker's: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
SYS_CHROOT. Not NET_RAW, MKNOD, AUDIT_WRITE, SETFCAP."""

_PR_SET_NO_NEW_PRIVS = 38
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_FLAGS = struct.Struct("16sH14x")
_libc = ctypes.CDLL(None, use_errno=True)


class Sandbox(msgspec.Struct, frozen=True):
    """See the module."""

    memory_bytes: int
    """Most private memory of one process, and of files in /dev/shm."""
    processes: int
    """Most processes and threads of its user; for root this does not hold (setrlimit(2), RLIMIT_NPROC)."""
    gpus: bool = False
    """It sees the machine's GPUs."""
    grouped: bool = False
    """A control group holds both limits for all processes together, so that each has none of its own."""


def start_loopback() -> None:
    """In a new network: have the program reach itself. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        found = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _FLAGS.pack(b"lo", 0))
        _, flags = _FLAGS.unpack(found)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _FLAGS.pack(b"lo", flags | _IFF_UP))


def give_up_rights(sandbox: Sandbox) -> None:
    """The last thing before the program. Raises OSError."""
    os.setsid()  # whoever has a terminal may type into it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sandbox.grouped:
        _lower(resource.RLIMIT_DATA, sandbox.memory_bytes)
        _lower(resource.RLIMIT_NPROC, sandbox.processes)
    check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    forbid_calls()


def _lower(kind: int, wanted: int) -> None:
    _, most = resource.getrlimit(kind)
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(kind, (limit, limit))


__all__ = ["FEW_CAPABILITIES", "NAMESPACES", "Sandbox", "give_up_rights", "start_loopback"]
