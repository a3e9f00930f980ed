"""What of this machine's NVIDIA driver a program of an image sees: the libraries and programs that fit the kernel's
module, and so cannot be in an image.

An image says that it wants them as for NVIDIA's container toolkit (its documentation, "Specialized Configurations with
Docker"): ``NVIDIA_VISIBLE_DEVICES``, and ``NVIDIA_DRIVER_CAPABILITIES`` which of them. Which file belongs to which
capability is libnvidia-container's table (``src/nvc_info.c``).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from registry_pipelines.stream.lazy.program_root import Kinds

DEVICES, CAPABILITIES = "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"
_DEFAULT = ("utility", "compute")
_OLD_CUDA = "CUDA_VERSION"
"""Images of CUDA from before those variables have this one alone."""

_LIBRARIES = {
    "compute": (
        *("libcuda", "libcudadebugger", "libnvidia-opencl", "libnvidia-gpucomp", "libnvidia-ptxjitcompiler"),
        *("libnvidia-fatbinaryloader", "libnvidia-allocator", "libnvidia-compiler", "libnvidia-pkcs11"),
        *("libnvidia-pkcs11-openssl3", "libnvidia-nvvm", "libnvidia-nvvm70", "libnvidia-sandboxutils"),
    ),
    "utility": ("libnvidia-ml", "libnvidia-cfg", "libnvidia-nscq"),
    "video": ("libvdpau_nvidia", "libnvidia-encode", "libnvidia-opticalflow", "libnvcuvid"),
    "graphics": (
        *("libnvidia-eglcore", "libnvidia-glcore", "libnvidia-tls", "libnvidia-glsi", "libnvidia-fbc"),
        *("libnvidia-ifr", "libnvidia-rtcore", "libnvoptix", "libGLX_nvidia", "libEGL_nvidia", "libGLESv2_nvidia"),
        *("libGLESv1_CM_nvidia", "libnvidia-glvkspirv", "libnvidia-cbl"),
    ),
    "ngx": ("libnvidia-ngx",),
}
_PROGRAMS = {
    "utility": ("nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nv-fabricmanager"),
    "compute": ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server"),
}
_LIBRARY = re.compile(r"(lib[\w-]+)\.so(\.[\w.]+)?")
_CACHED = re.compile(r"\s*(\S+) \((.*)\) => (/.*)")
_KINDS = {"x86_64": ("x86-64", "x86_64-linux-gnu"), "aarch64": ("AArch64", "aarch64-linux-gnu")}
_CONTROL = Path("/dev/nvidiactl")
_TIMEOUT_S = 20.0


def wants_driver(environment: Mapping[str, str]) -> bool:
    """Whether an image of this environment asks for the driver, as NVIDIA's toolkit decides it."""
    told = environment.get(DEVICES)
    return _OLD_CUDA in environment if told is None else told not in ("", "void")


def driver_files(environment: Mapping[str, str], kinds: Kinds, say: Callable[[str], object]) -> dict[str, Path]:
    """The driver's files of this machine by where an image should see them, below its root; none where the image asks
    for none, or this machine has none. environment: of the image. kinds: of its tree. say: is told where this machine
    has such a GPU and the program will see no driver."""
    if not wants_driver(environment):
        return {}
    told = environment.get(CAPABILITIES) or ",".join(_DEFAULT)
    wanted = set(_LIBRARIES) if "all" in told.split(",") else {each.strip() for each in told.split(",")}
    names = {name for each in wanted for name in _LIBRARIES.get(each, ())}
    programs = {name for each in wanted for name in _PROGRAMS.get(each, ())}
    libraries, binaries = _folder(kinds, _library_folders()), _folder(kinds, ("usr/bin", "bin"))
    found: dict[str, Path] = {}
    for path in _paths():
        match = _LIBRARY.fullmatch(path.name)
        if match and libraries and match[1] in names:
            # Programs load it by its short names, and need no cache of the loader for a folder that it looks into.
            found[f"{libraries}/{path.name}"] = path.resolve()
        elif path.name in programs and binaries:
            found[f"{binaries}/{path.name}"] = path.resolve()
    if not found and _CONTROL.exists():
        say(
            f"the image asks for this machine's GPU driver ({DEVICES}), and nothing of it is found or has a place in it"
        )
    return found


def _library_folders() -> tuple[str, ...]:
    return f"usr/lib/{_KINDS.get(os.uname().machine, ('', 'none'))[1]}", "usr/lib64", "usr/lib"


def _folder(kinds: Kinds, candidates: tuple[str, ...]) -> str:
    """The first that is a folder of the image, through no link."""
    for each in candidates:
        parts = each.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        found = [kinds(path) for path in above]
        if all(kind is not None and stat.S_ISDIR(kind[0]) for kind in found):
            return each
    return ""


def _paths() -> Iterator[Path]:
    """Libraries and programs of the machine, those of the driver among them: by NVIDIA's own list, else the loader's.
    The short names of a library, as ``libcuda.so.1``, come as well as its file's own."""
    said = _said("nvidia-container-cli", "list", "--libraries", "--binaries")
    if said is None:
        kind = _KINDS.get(os.uname().machine, ("none", ""))[0]
        cached = map(_CACHED.fullmatch, (_said("ldconfig", "-p") or "").splitlines())
        listed = [Path(match[3]) for match in cached if match and kind in match[2]]
        listed += [Path(there) for names in _PROGRAMS.values() for name in names if (there := shutil.which(name))]
    else:
        listed = [Path(line) for line in said.splitlines() if line.startswith("/")]
    for path in listed:
        if not path.is_file():
            continue
        yield path
        match = _LIBRARY.fullmatch(path.name)
        for name in (path.resolve().name, f"{match[1]}.so.1", f"{match[1]}.so") if match else ():
            if name != path.name and path.with_name(name).is_file():
                yield path.with_name(name)


def _said(program: str, *words: str) -> str | None:
    """What a program prints; None where it is not there, or fails."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        return None
    try:
        ran = subprocess.run([path, *words], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return ran.stdout


__all__ = ["driver_files", "wants_driver"]
