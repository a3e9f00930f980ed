"""System calls that a sandboxed program may not make (seccomp(2)): those that Docker's profile forbids without
capabilities and that reach what no namespace parts, as the kernel's keys, or what kernels had most holes in.

New user namespaces are forbidden, too: in one a program has all capabilities again, if only there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from registry_pipelines.stream.lazy.namespaces import CLONE_NEWUSER, check

_FORBIDDEN: dict[str, tuple[int, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
"""Numbers on x86_64 and aarch64; None: there is none."""
_MACHINES = {"x86_64": (0xC000003E, 56, 272), "aarch64": (0xC00000B7, 220, 97)}
"""AUDIT_ARCH of the kernel's linux/audit.h; numbers of clone and unshare."""
_CLONE3 = 435
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data; the lower half of an argument, on little-endian machines."""
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4
_CALL = {"x86_64": 317, "aarch64": 277}
_INSTRUCTION = struct.Struct("HBBI")


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_calls() -> None:
    """From now on they fail with EPERM, in this process and all that it starts; so does every call of a program for
    another machine, as one of 32 bits. To be called with no_new_privs. Raises OSError."""
    machine = os.uname().machine
    code = b"".join(_INSTRUCTION.pack(*each) for each in _filter(machine))
    program = _Program(len(code) // _INSTRUCTION.size, code)
    call = ctypes.CDLL(None, use_errno=True).syscall
    check(call(ctypes.c_long(_CALL[machine]), _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(program)))


def _filter(machine: str) -> list[tuple[int, int, int, int]]:
    """Instructions of classic BPF: code, jump where true, jump where not, value."""
    kind, clone, unshare = _MACHINES[machine]
    refused, allowed = _ERROR | errno.EPERM, _ALLOW
    made = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, kind),
        (_RETURN, 0, 0, refused),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        made += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, refused)]
    # What cannot be looked into is not there: C libraries take clone then.
    made += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for numbers in _FORBIDDEN.values():
        number = numbers[[*_MACHINES].index(machine)]
        if number is not None:
            made += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refused)]
    return [
        *made,
        (_EQUAL, 2, 0, clone),
        (_EQUAL, 1, 0, unshare),
        (_RETURN, 0, 0, allowed),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, CLONE_NEWUSER),
        (_RETURN, 0, 0, refused),
        (_RETURN, 0, 0, allowed),
    ]


__all__ = ["forbid_calls"]
