"""What kind of file it is: weights by content, where that was read; else by rules of names, the first that fits:
weights, system libraries, runtime, dependencies, base OS, application."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from registry_pipelines.anatomy.report import LayerClass
from registry_pipelines.scan.weights_found import MIN_WEIGHTS_BYTES, is_named_weights

_SYSTEM_FOLDERS = re.compile(
    r"(?:^|/)(?:usr/local/cuda[^/]*|opt/rocm[^/]*|opt/nvidia|usr/local/nvidia|usr/lib/nvidia[^/]*|opt/intel/oneapi)/"
)
_SYSTEM_OWNERS = re.compile(
    r"(?:python nvidia[-_]|conda (?:cuda|cudnn|nccl|libcu|libnv|libnpp|cudatoolkit|mkl|intel-openmp)"
    r"|(?:deb|rpm) (?:cuda|libcudnn|libnccl|libcublas|libcu[a-z]+-?\d|libnv|libnpp|nsight|nvidia|rocm|hip|miopen|rccl))"
)
_SYSTEM_LIBRARIES = re.compile(
    r"lib(?:cuda|cudart|cudnn[a-z_]*|nccl|cublas|cublasLt|cufft|cufftw|curand|cusolver|cusolverMg|cusparse"
    r"|cusparseLt|cufile|cupti|cudss|nvrtc[a-z-]*|nvJitLink|nvToolsExt|nvshmem[a-z_]*|nvfatbin|nvperf_host|nvinfer[a-z_]*"
    r"|npp[a-z]+|nvjpeg|amdhip64|rocblas|hipblas[a-zLt]*|MIOpen|rccl|hsa-runtime64)(?:-[0-9a-f]{8})?"
    r"(?:\.(?:so|a)(?:\.[^/]*)?|_static[^/]*\.a|[.-][0-9][^/]*\.so(?:\.[^/]*)?)\Z"
)
_RUNTIME_PACKAGES = re.compile(
    r"(?:deb|rpm|apk) (?:lib)?(?:python3?(?:\.\d+)?(?:-(?:minimal|stdlib|libs|dev|devel|distutils|venv))?|nodejs"
    r"|openjdk-[\w-]+|java-[\d.]+-openjdk[\w-]*|ruby[\d.]*|r-base-core)\Z"
    r"|conda (?:python|nodejs|openjdk|r-base|pypy[\d.]*) "
)
_RUNTIME_PATHS = re.compile(
    r"(?:^|/)(?:bin/(?:python|node|java|pypy)[\d.]*|lib(?:64)?/libpython[\d.]+[a-z]*\.(?:so[^/]*|a)"
    r"|include/(?:python3\.\d+[a-z]*|node)/.*|usr/lib/jvm/.*)\Z"
)
_INSTALLED = re.compile(r"(?:^|/)(?:site-packages|dist-packages|node_modules)/")
_LANGUAGES = ("python ", "conda ", "npm ")
_SYSTEM_ROOTS = frozenset(("bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var", "run"))
_OWN_ROOTS = ("usr/local/", "usr/src/", "var/www/", "var/task/")


def class_of(
    path: str, size: int, owner: str, interpreters: Collection[str] = (), *, weights: bool | None = None
) -> LayerClass:
    """path: without a leading slash. size: bytes. owner: as ``Owners`` tells it. interpreters: folders of Python's
    standard libraries. weights: what its content says; its name says it where None."""
    if (size >= MIN_WEIGHTS_BYTES and is_named_weights(path)) if weights is None else weights:
        return "weights"
    start = path.rfind("/") + 1
    is_system, installed = _of_folder(path[:start])
    by_owner = _of_owner(owner)
    if is_system or by_owner == "system libraries" or _SYSTEM_LIBRARIES.match(path, start):
        return "system libraries"
    if by_owner == "runtime" or (not owner.startswith(_LANGUAGES) and _RUNTIME_PATHS.search(path)):
        return "runtime"
    if not installed and _is_below(path, interpreters):
        return "runtime"
    if owner.startswith(_LANGUAGES):
        return "dependencies"
    if owner:
        return "base OS"
    if installed or path.startswith("opt/conda/"):
        return "dependencies"
    root = path.partition("/")[0]
    return "base OS" if root in _SYSTEM_ROOTS and not path.startswith(_OWN_ROOTS) else "application"


@lru_cache(maxsize=1024)
def _of_folder(folder: str) -> tuple[bool, bool]:
    """Whether what lies in a folder is of system libraries, and whether a language's package manager installed it.
    folder: with its slash."""
    return _SYSTEM_FOLDERS.search(folder) is not None, _INSTALLED.search(folder) is not None


@lru_cache(maxsize=4096)
def _of_owner(owner: str) -> LayerClass | None:
    """The class of a package's files where its name alone says it."""
    if _SYSTEM_OWNERS.match(owner):
        return "system libraries"
    return "runtime" if _RUNTIME_PACKAGES.match(owner) else None


def _is_below(path: str, folders: Collection[str]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)
