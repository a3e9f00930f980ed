"""Copies to ECR: the real command line and library against the double, killed and disturbed in the middle."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import Forbidden
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import Retries
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.blob.produced import Write, produce_blob
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.answers import answered
from tests.doubles.aws.ecr import SECRET_KEY, ApiError, EcrDouble, Fault, Instead
from tests.doubles.certificates import make_certificates
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()"]
LAYER_BYTES = 40_000_000
QUICK = Retries(attempts=2, first_wait_s=0.01, longest_wait_s=0.02)


@dataclass
class Ecr:
    """The double, and what a process needs to take it for ECR."""

    double: EcrDouble
    environment: dict[str, str]
    folder: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=patient(120))
        assert process.returncode == 0, errors
        return output

    def parts(self) -> list[tuple[int, str]]:
        calls = [call for call in self.double.calls if call.action == "UploadLayerPart"]
        return [(call.values["partFirstByte"], call.code) for call in calls]


@pytest.fixture
def ecr(tmp_path: Path, start_embedded: Callable[..., Counted], monkeypatch: pytest.MonkeyPatch) -> Iterator[Ecr]:
    certificates = make_certificates(tmp_path / "certificates", HOST)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with EcrDouble(start_embedded().address, tls=tls) as double:
        settings = {
            "AWS_ENDPOINT_URL_ECR": f"http://{double.api_address}",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "HTTPS_PROXY": f"http://{double.proxy_address}",
            "SSL_CERT_FILE": str(certificates.ca),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield Ecr(double, dict(os.environ), tmp_path)


@pytest.fixture
def registry(ecr: Ecr) -> Iterator[EcrRegistry]:
    client = EcrRegistry(HOST, retries=QUICK)
    yield client
    client.close()


def test_command_line_copies_and_verifies(ecr: Ecr, source: Counted, graphs: Graphs) -> None:
    graphs.image(source.place("big"), graphs.noise(LAYER_BYTES), graphs.noise(500), tag="v1")
    ecr.run("copy", "--quiet", f"{source.address}/big:v1", f"{HOST}/team/big")
    assert ecr.parts() == [(start, "") for start in range(0, LAYER_BYTES, PART_BYTES)]
    assert ecr.double.count("CompleteLayerUpload") == 1
    # One question about all blobs of the copy when it is read back.
    assert ecr.double.count("BatchCheckLayerAvailability") == 1
    assert not [one for one in ecr.double.requests if one.startswith("PATCH")]
    ecr.run("verify-copy", f"{source.address}/big:v1", f"{HOST}/team/big:v1")
    before = len(ecr.double.calls)
    ecr.run("copy", "--quiet", f"{source.address}/big:v1", f"{HOST}/team/big")
    assert {call.action for call in ecr.double.calls[before:]} <= {
        "GetAuthorizationToken",
        "BatchCheckLayerAvailability",
    }


@pytest.mark.parametrize("stored", [False, True], ids=["on its way", "stored, not yet answered"])
def test_killed_command_sends_at_most_one_part_again(
    stored: bool, ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry
) -> None:
    graphs.image(source.place("big"), graphs.noise(LAYER_BYTES), tag="v1")
    command = ("copy", "--quiet", f"{source.address}/big:v1", f"{HOST}/big")
    for _ in range(2):
        process = ecr.start(*command)
        # By the double: who only waits for it may look when the copy is over.
        ecr.double.fail("UploadLayerPart", process.kill if stored else Instead(process.kill), skip=1)
        process.communicate(timeout=patient(120))
        assert process.returncode == -9
    ecr.run(*command)
    assert ecr.double.count("InitiateLayerUpload") == 1
    assert ecr.double.part_bytes_in - LAYER_BYTES <= 2 * PART_BYTES
    if stored:
        starts = [start for start, _ in ecr.parts()]
        assert len(starts) == len(set(starts)) + 2
    assert compare(source.place("big"), Place(registry, "big"), "v1", content=True) == []


def test_upload_that_expired_between_two_runs(ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry) -> None:
    graphs.image(source.place("big"), graphs.noise(LAYER_BYTES), tag="v1")
    command = ("copy", "--quiet", f"{source.address}/big:v1", f"{HOST}/big")
    process = ecr.start(*command)
    ecr.double.fail("UploadLayerPart", process.kill, skip=2)
    process.communicate(timeout=patient(120))
    ecr.double.uploads.clear()
    ecr.run(*command)
    assert ecr.double.count("InitiateLayerUpload") == 2
    assert compare(source.place("big"), Place(registry, "big"), "v1", content=True) == []


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ("UploadLayerPart", "lose"),
        ("UploadLayerPart", "cut"),
        ("UploadLayerPart", ApiError("ThrottlingException", "Rate exceeded")),
        ("UploadLayerPart", ApiError("UploadNotFoundException", "gone")),
        ("UploadLayerPart", ApiError("InvalidLayerPartException", "why?", lastValidByteReceived=0)),
        ("UploadLayerPart", ApiError("InvalidLayerPartException", "no byte said")),
        ("InitiateLayerUpload", ApiError("ServerException", "oops", status=500)),
        ("CompleteLayerUpload", "lose"),
        ("CompleteLayerUpload", "cut"),
        ("CompleteLayerUpload", ApiError("InvalidLayerException", "digest")),
        ("CompleteLayerUpload", ApiError("LayerPartTooSmallException", "small")),
    ],
    ids=str,
)
def test_troubles_that_pass(
    action: str, fault: Fault, ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry, tmp_path: Path
) -> None:
    graphs.image(source.place("big"), graphs.noise(2 * PART_BYTES + 77), tag="v1")
    wrong_offset = isinstance(fault, ApiError) and fault.fields
    ecr.double.fail(action, fault, times=1 if wrong_offset else 3, skip=1 if action == "UploadLayerPart" else 0)
    there = Place(limited(registry, MachineLimits(folder=tmp_path / "limits")), "big")
    copy_closure(source.place("big"), "v1", [there], engine=Engine(state=tmp_path / "transfer"))
    assert compare(source.place("big"), Place(registry, "big"), "v1", content=True) == []


def test_a_blob_that_is_made_is_made_anew_when_ecr_lost_parts_of_it(ecr: Ecr, registry: EcrRegistry) -> None:
    """Those before are not in memory any more, and others in their place would be found out at the commit only."""
    content = bytes(range(256)) * (2 * PART_BYTES // 256) + b"end"
    blob = Descriptor(media_type="application/octet-stream", digest=Digest.of(content), size=len(content))

    def produce(write: Write) -> Descriptor:
        write(content)
        return blob

    def lose() -> None:
        for upload in ecr.double.uploads.values():
            upload.content.clear()

    ecr.double.fail("UploadLayerPart", lose, skip=1)
    produce_blob(Place(registry, "big"), "name", produce, BlobTools())
    assert registry.blob_size("big", blob.digest) == blob.size
    assert ecr.double.count("InitiateLayerUpload") == 2
    assert ecr.double.count("CompleteLayerUpload") == 1


def test_parts_smaller_than_ours_are_served_from_the_spool(
    ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry, tmp_path: Path
) -> None:
    ecr.double.part_bytes = 6 * 1024 * 1024
    graphs.image(source.place("big"), graphs.noise(2 * PART_BYTES + 77), tag="v1")
    copy_closure(source.place("big"), "v1", [Place(registry, "big")], engine=Engine(state=tmp_path / "transfer"))
    assert compare(source.place("big"), Place(registry, "big"), "v1", content=True) == []


def test_no_permission_is_told_at_once(
    ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry, tmp_path: Path
) -> None:
    graphs.image(source.place("big"), graphs.noise(PART_BYTES + 1), tag="v1")
    ecr.double.fail("InitiateLayerUpload", ApiError("AccessDeniedException", "no", status=400), times=9)
    with pytest.raises(Forbidden, match="AccessDeniedException"):
        copy_closure(source.place("big"), "v1", [Place(registry, "big")], engine=Engine(state=tmp_path / "transfer"))
    assert ecr.double.count("InitiateLayerUpload") == 1


def test_fleet_mounts_what_a_committed_manifest_names(
    ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry, tmp_path: Path
) -> None:
    ecr.double.here.settings["BLOB_MOUNTING"] = "ENABLED"
    base = graphs.noise(PART_BYTES + 1000)
    for name in ("one", "two"):
        graphs.image(source.place(name), base, name.encode() * 100, tag="v1")
    assert sync(
        [Source(source.registry, (OpenTarget(registry, "copies"),))], engine=Engine(state=tmp_path / "transfer")
    ).ok
    assert ecr.double.count("CompleteLayerUpload") == 1
    for name in ("one", "two"):
        assert compare(source.place(name), Place(registry, f"copies/{name}"), "v1", content=True) == []


def test_configured_host_needs_no_password(ecr: Ecr, source: Counted, graphs: Graphs) -> None:
    graphs.image(source.place("app"), b"layer", tag="v1")
    (ecr.folder / "registry-pipelines.yaml").write_text(
        f"registries:\n  cloud: {{kind: distribution, host: {HOST}}}\n"
        f"  here: {{kind: distribution, host: '{source.address}'}}\n"
    )
    ecr.run("copy", "--quiet", "here/app:v1", "cloud/app")
    mismatches = answered(ecr.run("verify-copy", "--json", "here/app:v1", "cloud/app:v1"))
    assert mismatches["ok"] and mismatches["differences"] == []
    assert ecr.double.count("GetAuthorizationToken") == 2


def test_many_manifests_are_one_question(ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry) -> None:
    """An index of five images: asked for before, and read back after, in a call each."""
    place = source.place("many")
    children = [(graphs.image(place, graphs.noise(100 + number)), f"linux/arch{number}") for number in range(5)]
    graphs.index(place, *children, tag="v1")
    for _ in range(2):
        ecr.double.requests.clear()
        ecr.run("copy", "--quiet", f"{source.address}/many:v1", f"{HOST}/many")
        heads = [one for one in ecr.double.requests if one.startswith("HEAD") and "sha256:" in one]
        assert len(heads) <= 1
    assert 1 <= ecr.double.count("BatchGetImage") <= 3
    assert compare(source.place("many"), Place(registry, "many"), "v1", content=True) == []


@pytest.mark.parametrize("may_ask", [True, False])
def test_where_the_account_mounts_nothing_it_is_asked_once_and_no_further_mount_is_tried(
    ecr: Ecr, source: Counted, graphs: Graphs, registry: EcrRegistry, tmp_path: Path, *, may_ask: bool
) -> None:
    base = graphs.noise(5000)
    if not may_ask:
        ecr.double.fail("GetAccountSetting", ApiError("AccessDeniedException", "no", status=400), times=9)
    for name in ("one", "two", "three"):
        graphs.image(source.place(name), base, name.encode() * 100, tag="v1")
        copies = [Source(source.registry, (OpenTarget(registry, "copies"),))]
        assert sync(copies, engine=Engine(state=tmp_path / "transfer")).ok
    tried = {one.split("/")[3] for one in ecr.double.requests if "mount=" in one}
    assert ecr.double.count("GetAccountSetting") == 1
    assert tried == ({"two"} if may_ask else {"two", "three"})
    assert registry.capabilities("copies/new").mount is (False if may_ask else None)
    for name in ("one", "two", "three"):
        assert compare(source.place(name), Place(registry, f"copies/{name}"), "v1", content=True) == []
