"""Findings about images as a whole: secrets wherever they stand, order, bases, installers, compilers, configs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.predicate import image_advice
from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.secrets import short_hash
from tests.anatomy.images import push_configured
from tests.scan.images import DEBIAN, Files, dist_info
from tests.scan.test_secrets import GITHUB, HF, KEY

SITE = "usr/lib/python3/site-packages"
NOISE = random.Random(3).randbytes(1_500_000)


Make = Callable[..., Anatomy]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Pushes an image of these layers and reads it."""
    place = Place(LayoutRegistry(tmp_path / "registry"), "team/app")

    def made(*layers: Files, **more: Any) -> Anatomy:
        image = push_configured(place, layers, **more)
        platform = Platform.parse("linux/amd64")
        return image_anatomy(place, image.digest, state=tmp_path / "state", all_files=True, platform=platform)

    return made


def rows(found: Anatomy) -> dict[str, Advice]:
    return {each.kind: each for each in found.advice}


def packages(*names: str) -> Files:
    """A dpkg database, and a file of each of these packages."""
    status = "".join(
        f"Package: {each}\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n" for each in names
    )
    lists = {f"var/lib/dpkg/info/{each}.list": f"/.\n/usr/lib/own/{each}/file\n" for each in names}
    files = {f"usr/lib/own/{each}/file": b"x" * 10_000 + each.encode() for each in names}
    return {"var/lib/dpkg/status": status, "etc/os-release": "ID=debian\nVERSION_ID=12\n", **lists, **files}


def test_secrets_are_found_where_a_later_layer_deletes_them(make: Make) -> None:
    found = make(
        {"app/.env": f"HF_TOKEN={HF}\n", "app/id_ed25519": KEY, "app/main.py": "x = 1\n"},
        {"app/.wh..env": "", "app/same.pem": KEY},
        {**dist_info("tornado", "6.4"), f"{SITE}/tornado/test/test.key": KEY},
    )
    told = rows(found)
    secrets = told["secrets"]
    assert (secrets.severity, secrets.layers, secrets.files) == ("error", (1, 2), 3)
    assert any(
        "app/.env:1 huggingface-token #" in each and "(layer 1, deleted by layer 2)" in each
        for each in secrets.examples
    )
    marks = {each.split("#")[1].split(" ")[0] for each in secrets.examples if "private-key" in each}
    assert len(marks) == 1, "one key in two files has one hash"
    assert (
        told["published-secrets"].severity == "note"
        and "tornado/test/test.key" in told["published-secrets"].examples[0]
    )
    shown = repr(found)
    assert HF not in shown and "MIIEvgIBADANBgkqhkiG9w0" not in shown


def test_secrets_of_the_config_are_found_and_not_repeated(make: Make) -> None:
    found = make(
        {"app/a": "1"},
        {"app/b": "2"},
        {"app/c": "3"},
        steps=(
            f"|1 PIP_TOKEN={GITHUB} /bin/sh -c pip install x",
            "RUN /bin/sh -c pip install -i https://me:pa55word@host/simple y # buildkit",
            "COPY . /app # buildkit",
        ),
        config={
            "Env": [f"HF_TOKEN={HF}", "DB_PASSWORD=zz1hunter2", "PATH=/usr/bin", "GPG_KEY=A035C8C19219BA821ECE"],
            "Labels": {"key": f"x {HF}", "org.opencontainers.image.title": "t"},
            "Cmd": ["serve", "--password-file=/run/x"],
        },
    )
    told = rows(found)["secrets-in-config"]
    shown = " ".join(told.examples)
    for part in (
        "env: HF_TOKEN huggingface-token",
        "env: DB_PASSWORD value",
        "history 1: build argument PIP_TOKEN github-token",
        "history 2: url-password",
        "label key",
    ):
        assert part in shown, (part, shown)
    assert "GPG_KEY" not in shown and len(told.examples) == 5
    whole = repr(found)
    for secret in (HF, GITHUB, "zz1hunter2", "pa55word"):
        assert secret not in whole


def test_wheels_that_were_copied_to_be_installed_count_even_when_deleted(make: Make) -> None:
    found = make(
        {
            "wheels/pkg-1.0-py3-none-any.whl": NOISE,
            "usr/lib/python3.11/ensurepip/_bundled/pip-1-py3-none-any.whl": b"p" * 5000,
        },
        {**dist_info("pkg", "1.0"), f"{SITE}/pkg/data.bin": NOISE[::-1]},
        {"wheels/.wh.pkg-1.0-py3-none-any.whl": "", "tmp/cuda_12.run": NOISE[:1_200_000]},
        steps=(
            "COPY /wheels /wheels # buildkit",
            "RUN /bin/sh -c pip install /wheels/*",
            "RUN /bin/sh -c rm -rf /wheels",
        ),
    )
    told = rows(found)["copied-to-install"]
    assert (told.files, told.size, told.layers) == (2, len(NOISE) + 1_200_000, (1, 3))
    assert "1 of 2 are deleted" in told.why and "hidden" not in rows(found)
    assert found.wasted_unpacked >= told.size and sum(told.layer_bytes) == told.compressed


def test_cuda_development_packages_and_compilers_by_owner_and_by_file(make: Make) -> None:
    dev = packages(
        "cuda-cudart-dev-12-4",
        "libcublas-dev-12-4",
        "cuda-nvcc-12-4",
        "gcc-12",
        "gcc-12-base",
        "libcublas-12-4",
        "cmake",
        "libc6",
    )
    told = rows(make(dev, {"usr/local/go/bin/go": b"g" * 9000, "opt/x/bin/nvcc": b"n" * 9000}))
    assert {each.split("/")[3] for each in told["devel-base"].examples} == {
        "cuda-cudart-dev-12-4",
        "libcublas-dev-12-4",
        "cuda-nvcc-12-4",
    }
    assert sorted(told["compilers"].examples) == [
        "opt/x/bin/nvcc",
        "usr/lib/own/cmake/file",
        "usr/lib/own/gcc-12/file",
        "usr/local/go/bin/go",
    ]
    assert told["compilers"].severity == "warning"


def test_a_compiler_beside_triton_is_no_waste(make: Make) -> None:
    base = packages("gcc-12")
    plain, triton = (
        make(base),
        make(base, {**dist_info("triton", "3.1.0"), f"{SITE}/triton/a.py": "x"}),
    )
    assert plain.wasted_unpacked == rows(plain)["compilers"].size > 0
    assert triton.wasted_unpacked == 0 and rows(triton)["compilers"].severity == "note"
    assert "Triton" in rows(triton)["compilers"].why


def test_the_full_debian_image_is_told_from_the_slim_one(make: Make) -> None:
    full = packages("autoconf", "automake", "libmagickcore-dev", "mercurial", "libpq-dev", "bash", "libc6")
    told = rows(make(full))["slimmer-base"]
    assert "-slim" in told.do and told.files == 5
    slim = rows(make(packages("bash", "apt", "libc6")))["slimmer-base"]
    assert "distroless" in slim.do and slim.examples == ("bash", "apt") and slim.files == 2
    assert "slimmer-base" not in rows(make(packages("libc6", "libssl3")))


def wheel(name: str, *tags: str) -> dict[str, str]:
    made = dist_info(name, "1.0")
    folder = next(iter(made)).rpartition("/")[0]
    return {**made, f"{folder}/WHEEL": "Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags)}


def test_wheels_that_would_not_work_with_musl_are_named(make: Make) -> None:
    wheels = {
        **wheel("numpy", "cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-manylinux2014_x86_64"),
        **wheel("torch", "cp312-cp312-linux_x86_64"),
        **wheel("jinja2", "py3-none-any"),
        **wheel("orjson", "cp312-cp312-musllinux_1_2_x86_64"),
    }
    told = rows(make({**DEBIAN, **wheels}))["musl-wheels"]
    assert (told.severity, told.examples) == ("note", ("numpy 1.0", "torch 1.0"))
    alpine = rows(make({"etc/os-release": "ID=alpine\nVERSION_ID=3.20\n", **wheels}))["musl-wheels"]
    assert alpine.severity == "warning" and "Alpine" in alpine.why


def test_code_below_dependencies_moves_them_with_each_change(make: Make) -> None:
    code: Files = {"app/main.py": "x = 1\n", "app/requirements.txt": "numpy"}
    dependencies: Files = {**dist_info("numpy", "1.0"), f"{SITE}/numpy/core.bin": NOISE}
    steps = ("COPY . /app # buildkit", "RUN /bin/sh -c pip install -r /app/requirements.txt # buildkit")
    told = rows(make(code, dependencies, steps=steps))["application-below-dependencies"]
    assert told.layers == (2,) and told.compressed >= len(NOISE) and told.examples == ("app/main.py",)
    right = make({"app/requirements.txt": "numpy"}, dependencies, code)
    assert "application-below-dependencies" not in rows(right)
    small = make(code, {**dist_info("own", "1.0"), f"{SITE}/own/a.py": "x"})
    assert "application-below-dependencies" not in rows(small), "the application's own wheel"


def test_what_the_config_and_the_annotations_tell(make: Make) -> None:
    name, digest = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
    layer: Files = {"a": "1"}
    told = rows(make(layer, config={"Labels": {"quay.expires-after": "2w", name: "docker.io/library/python"}}))
    assert told["expires-by-label"].severity == "error" and "2w" in told["expires-by-label"].why
    assert "latest" in told["moving-base"].why and told["root-user"].severity == "note"
    pinned = {name: "docker.io/library/python:3.12", digest: "sha256:" + "0" * 64}
    told = rows(make(layer, config={"User": "65532:65532"}, annotations=pinned))
    assert not {"moving-base", "root-user", "expires-by-label"} & set(told)
    told = rows(make(layer, config={"User": "root:root", "Env": ["NV_CUDA_CUDART_DEV_VERSION=12.4.127-1"]}))
    assert {"root-user", "devel-base"} <= set(told)
    by_name = rows(make(layer, annotations={name: "docker.io/nvidia/cuda:12.4.1-devel-ubuntu22.04@sha256:1"}))
    assert "devel-base" in by_name and "moving-base" not in by_name


def test_each_byte_is_wasted_once_and_the_document_is_the_same_again(make: Make) -> None:
    layers: tuple[Files, ...] = (
        {"root/.cache/pip/a": NOISE, "data/b": NOISE, "data/c": NOISE, "app/x.whl": NOISE},
        {"root/.cache/pip/a": NOISE},
    )
    found = make(*layers)
    assert found.wasted_unpacked == 4 * len(NOISE), "two in the cache, the wheel, and one of two equal files"
    assert found.wasted == sum(each.compressed for each in found.files) - next(
        each.compressed for each in found.files if each.path == "data/b"
    )
    from registry_pipelines.oci.digest import Digest

    subject = Digest.parse(found.digest)
    assert image_advice(subject, [found]) == image_advice(subject, [make(*layers)])


def test_a_token_as_the_name_or_value_of_a_label_is_not_repeated(make: Make) -> None:
    found = make({"app/a": "1"}, config={"Labels": {HF: GITHUB, "quay.expires-after": GITHUB}})
    assert rows(found)["expires-by-label"].why.startswith("the label quay.expires-after=*** lets")
    assert f"label ***: *** github-token #{short_hash(GITHUB.encode())}" in rows(found)["secrets-in-config"].examples
    assert HF not in repr(found) and GITHUB not in repr(found)
