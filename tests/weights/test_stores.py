"""Weights in object stores: there, back, between them, after kills, and what stores do wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner

from registry_pipelines.chain.weight_sync import store_at
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.stores.store import open_store
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.weights.ends import from_folder
from registry_pipelines.weights.in_store import open_stored
from registry_pipelines.weights.to_store import store_weights
from registry_pipelines.weights.verify import verify_stored
from tests.doubles.s3 import BUCKET, REGION, s3_server
from tests.doubles.s3_files import Files, s3_files
from tests.patience import patient
from tests.weights.conftest import call, done, files_of, noise
from tests.weights.test_killed import COMMAND

WHOLE = {"weights.json", ".registry-pipelines/manifest.json", ".registry-pipelines/config.json"}
"""What lies beside the files of a whole set."""


@dataclass
class Stores:
    """S3 and Google's storage on loopback, and the configuration that names them, in the current folder."""

    s3: Files
    gs: Files

    def objects(self, prefix: str) -> set[str]:
        keys = self.s3.objects("models")
        return {key.removeprefix(f"{prefix}/") for key in keys if key.startswith(f"{prefix}/")}

    def read(self, key: str) -> bytes:
        return self.s3.read("models", key)


def configure(**stores: str) -> None:
    """Name stores in the current folder's configuration, by their addresses and endpoints."""
    entries = {
        name: {"kind": "store", "address": text.split()[0], "endpoint": text.split()[1], "region": REGION}
        for name, text in stores.items()
    }
    Path("registry-pipelines.yaml").write_text(json.dumps({"registries": entries}))


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-test")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with s3_files(tmp_path / "s3") as s3, s3_files(tmp_path / "gs") as gs:
        account = {"gcs_base_url": gs.address, "disable_oauth": True, "client_email": "", "private_key": ""}
        (tmp_path / "account.json").write_text(json.dumps({**account, "private_key_id": ""}))
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
        configure(s3=f"s3://models/images {s3.address}", gs=f"gs://models/images {gs.address}")
        yield Stores(s3, gs)


def test_there_and_back_with_the_digest_of_a_registry(
    stores: Stores, model: Callable[..., Path], address: str, tmp_path: Path
) -> None:
    folder = model("m", values=3_000_000)  # 12 MB: two parts
    (folder / "empty.txt").write_text("")
    pushed = done("push", folder, "s3://models/llama")
    registered = done("push", folder, f"{address}/llama:1")
    assert pushed["digest"] == registered["digest"]
    assert (pushed["facts"]["copied"], pushed["bytes_moved"]) == (7, sum(map(len, files_of(folder).values())))
    assert stores.objects("llama") == {*files_of(folder), *WHOLE}
    assert {path: stores.read(f"llama/{path}") for path in files_of(folder)} == files_of(folder)
    assert stores.s3.calls["part"] == 6
    assert stores.s3.open_uploads() == []

    assert done("pull", "s3://models/llama", "--to", tmp_path / "back")["digest"] == pushed["digest"]
    assert files_of(tmp_path / "back") == files_of(folder)
    assert done("verify", "s3://models/llama")["facts"]["whole"] == 7
    assert len(done("ls", "s3://models/llama")["rows"]) == 7
    assert done("sync", "s3://models/llama", f"{address}/llama:2")["facts"]["present"] == 6 + 1
    again = done("sync", f"{address}/llama:2", "s3://models/llama")
    assert (again["action"], again["changed"], again["bytes_moved"]) == ("unchanged", False, 0)


def test_between_google_and_s3_only_what_changed_moves(stores: Stores, model: Callable[..., Path]) -> None:
    first, second = model("m", 6, values=500_000), model("n", 6, seed=2, values=500_000)
    for number in (1, 2, 4, 5):
        name = f"model-{number:05}-of-00006.safetensors"
        (second / name).write_bytes((first / name).read_bytes())
    (first / "model.sig").write_text("a signature")
    (first / "old.txt").write_text("old")
    pushed = done("push", first, "gs://models/llama")
    synced = done("sync", "gs://models/llama", "s3://models/llama")
    assert synced["digest"] == pushed["digest"]
    assert stores.read("llama/model.sig") == b"a signature"

    done("push", second, "gs://models/llama")
    changed = done("sync", "gs://models/llama", "s3://models/llama")
    index = (second / "model.safetensors.index.json").stat().st_size
    shards = [(second / f"model-0000{number}-of-00006.safetensors").stat().st_size for number in (3, 6)]
    assert changed["bytes_moved"] == sum(shards) + index
    assert (changed["facts"]["copied"], changed["facts"]["removed"]) == (3, 1)
    assert stores.objects("llama") == {*files_of(second), *WHOLE}  # the old signature is gone with what it was about
    back = done("sync", "s3://models/llama", "gs://models/back")
    assert back["digest"] == changed["digest"]


def test_a_signature_goes_along(stores: Stores, model: Callable[..., Path], address: str, tmp_path: Path) -> None:
    keys, others = generate_key(tmp_path / "signer.pem"), generate_key(tmp_path / "other.pem")
    done("push", model("m"), f"{address}/m:1")
    done("sign", f"{address}/m:1", "--key", keys.private)
    done("sync", f"{address}/m:1", "s3://models/m")
    done("verify", "s3://models/m", "--signed", "--key", keys.public)
    assert call("verify", "s3://models/m", "--signed", "--key", others.public).exit_code == 3
    done("push", model("n", seed=2), "s3://models/n")
    assert done("sign", "s3://models/n", "--key", keys.private)["action"] == "signed"
    assert done("sign", "s3://models/n", "--key", keys.private)["action"] == "unchanged"
    done("verify", "s3://models/n", "--signed", "--key", keys.public)
    assert call("sign", "s3://models/nothing", "--key", keys.private).exit_code == 4
    done("sync", "s3://models/m", f"{address}/again:1")
    done("verify", f"{address}/again:1", "--signed", "--key", keys.public)


def test_a_file_under_another_name_is_copied_there(stores: Stores, model: Callable[..., Path]) -> None:
    folder = model("m")
    done("push", folder, "s3://models/llama")
    (folder / "copy").mkdir()
    (folder / "copy" / "same.safetensors").write_bytes((folder / "model-00001-of-00003.safetensors").read_bytes())
    found = done("push", folder, "s3://models/llama")
    assert (found["facts"]["mounted"], found["bytes_moved"], stores.s3.calls["copy"]) == (1, 0, 1)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_push_that_was_killed_goes_on_within_a_file(stores: Stores, tmp_path: Path, scheme: str) -> None:
    side: Files = getattr(stores, scheme)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.gguf").write_bytes(b"GGUF" + noise(1000))
    (folder / "large.gguf").write_bytes(b"GGUF" + noise(1_000_000) * 36)
    side.die_after = 3
    process = subprocess.Popen([*COMMAND, "push", str(folder), f"{scheme}://models/x", "--quiet"], cwd=tmp_path)
    until = time.monotonic() + patient(30)
    while side.calls["part"] < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()

    seen = call("ls", f"{scheme}://models/x")
    assert seen.exit_code == 4
    assert "not whole" in seen.output
    assert "weights.json" not in {key.removeprefix("x/") for key in side.objects("models")}
    side.die_after = None
    before = side.calls["part"]
    found = done("push", folder, f"{scheme}://models/x")
    assert side.calls["part"] - before == -(-36_000_004 // PART_BYTES) - before
    assert found["bytes_moved"] <= 36_000_004 - before * PART_BYTES + 1004
    assert side.read("models", "x/large.gguf") == (folder / "large.gguf").read_bytes()
    assert {key.removeprefix("x/") for key in side.objects("models")} == {"a.gguf", "large.gguf", *WHOLE}


def test_parts_that_an_earlier_run_sent_wrong_are_noticed(stores: Stores, tmp_path: Path) -> None:
    """What several runs sent is read back: here the store has another first part than was sent."""
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "large.gguf").write_bytes(b"GGUF" + noise(1_000_000) * 30)
    stores.s3.die_after = 2
    process = subprocess.Popen([*COMMAND, "push", str(folder), "s3://models/x", "--quiet"], cwd=tmp_path)
    until = time.monotonic() + patient(30)
    while stores.s3.calls["part"] < 2 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [upload] = (tmp_path / "s3" / "uploads").iterdir()
    (upload / "00001").write_bytes(noise(PART_BYTES, seed=2))
    stores.s3.die_after = None
    done("push", folder, "s3://models/x")
    assert stores.read("x/large.gguf") == (folder / "large.gguf").read_bytes()


def test_a_store_that_is_busy_or_loses_a_part_gets_it_again(stores: Stores, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "large.gguf").write_bytes(b"GGUF" + noise(1_000_000) * 20)
    stores.s3.busy, stores.s3.lose = 1, {2}
    done("push", folder, "s3://models/x")
    assert stores.read("x/large.gguf") == (folder / "large.gguf").read_bytes()
    assert stores.s3.open_uploads() == []


def test_a_full_store_is_said_and_a_push_goes_on_later(stores: Stores, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.gguf").write_bytes(b"GGUF" + noise(1000))
    (folder / "large.gguf").write_bytes(b"GGUF" + noise(1_000_000) * 20)
    stores.s3.room = 10_000_000
    full = call("push", folder, "s3://models/x")
    assert full.exit_code == 9
    assert "the store is full" in full.output
    assert "weights.json" not in stores.objects("x")
    stores.s3.room = None
    found = done("push", folder, "s3://models/x")
    assert found["bytes_moved"] < 20_000_000
    assert stores.objects("x") == {*files_of(folder), *WHOLE}


def test_a_store_without_ranges_is_read_whole(stores: Stores, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "large.gguf").write_bytes(b"GGUF" + noise(1_000_000) * 30)
    done("push", folder, "s3://models/x")
    stores.s3.no_ranges = True
    done("pull", "s3://models/x", "--to", tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(folder)


def test_a_prefix_of_somebody_else_is_refused(stores: Stores, model: Callable[..., Path], tmp_path: Path) -> None:
    client = boto3.Session().client("s3", endpoint_url=stores.s3.address, region_name=REGION)
    client.put_object(Bucket="models", Key="theirs/notes.txt", Body=b"x")
    refused = call("push", model("m"), "s3://models/theirs")
    assert refused.exit_code == 8
    assert "something else lies there, for instance notes.txt" in refused.output
    assert stores.objects("theirs") == {"notes.txt"}
    assert call("pull", "s3://models/nothing", "--to", tmp_path / "x").exit_code == 4

    done("push", model("m"), "s3://models/ours")
    client.put_object(Bucket="models", Key="ours/notes.txt", Body=b"x")
    (tmp_path / "m" / "config.json").write_text("{}")
    found = done("push", tmp_path / "m", "s3://models/ours")
    assert "notes.txt" in stores.objects("ours")
    assert "left alone: notes.txt" in found["notes"][-1]


def test_what_a_store_lost_or_changed_is_found_and_sent_again(stores: Stores, model: Callable[..., Path]) -> None:
    folder = model("m")
    done("push", folder, "s3://models/x")
    client = boto3.Session().client("s3", endpoint_url=stores.s3.address, region_name=REGION)
    client.delete_object(Bucket="models", Key="x/config.json")
    same = (folder / "model-00001-of-00003.safetensors").stat().st_size
    client.put_object(Bucket="models", Key="x/model-00001-of-00003.safetensors", Body=bytes(same))
    found = call("verify", "s3://models/x")
    assert found.exit_code == 6
    assert "config.json: missing" in found.output
    assert "model-00001-of-00003.safetensors: other content" in found.output
    lost = call("sync", "s3://models/x", "s3://models/y")
    assert lost.exit_code == 6
    assert "config.json" in lost.output
    assert done("push", folder, "s3://models/x")["facts"]["copied"] == 1


def test_a_folder_is_a_store(model: Callable[..., Path], address: str, tmp_path: Path) -> None:
    folder = model("m")
    pushed = done("push", folder, tmp_path / "kept")
    assert files_of(tmp_path / "kept") == files_of(folder)
    assert done("verify", tmp_path / "kept")["digest"] == pushed["digest"]
    assert done("sync", tmp_path / "kept", f"{address}/m:1")["digest"] == pushed["digest"]


def test_a_folder_that_was_pulled_and_copied_up_by_another_program_is_a_set(
    stores: Stores, model: Callable[..., Path], address: str, tmp_path: Path
) -> None:
    """Only the files and the list, as `aws s3 sync` leaves them: the artifact is made of their first bytes."""
    pushed = done("push", model("m"), f"{address}/m:1")
    done("pull", f"{address}/m:1", "--to", tmp_path / "node")
    client = boto3.Session().client("s3", endpoint_url=stores.s3.address, region_name=REGION)
    for name, content in files_of(tmp_path / "node").items():
        client.put_object(Bucket="models", Key=f"copied/{name}", Body=content)
    client.put_object(
        Bucket="models", Key="copied/weights.json", Body=(tmp_path / "node" / "weights.json").read_bytes()
    )
    assert done("sync", "s3://models/copied", f"{address}/again:1")["digest"] == pushed["digest"]


def test_files_changed_while_they_go_up_make_no_set(stores: Stores, model: Callable[..., Path]) -> None:
    folder = model("m")
    stores.s3.on_put = lambda: (folder / "config.json").write_text('{"other": 1}')
    changed = call("push", folder, "s3://models/x")
    assert changed.exit_code == 6
    assert "changed while it was read" in changed.output
    assert "weights.json" not in stores.objects("x")


def test_s3_by_another_program(model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls at a server that is not ours, which checks what they look like."""
    monkeypatch.chdir(tmp_path)
    folder = model("m", 2, values=3_000_000)
    with s3_server() as address:
        configure(moto=f"s3://{BUCKET}/images {address}")
        pushed = done("push", folder, f"s3://{BUCKET}/w")
        client = boto3.Session().client("s3", endpoint_url=address, region_name=REGION)
        keys = {each["Key"] for each in client.list_objects_v2(Bucket=BUCKET, Prefix="w/")["Contents"]}
        assert keys == {f"w/{path}" for path in {*files_of(folder), *WHOLE}}
        assert done("pull", f"s3://{BUCKET}/w", "--to", tmp_path / "back")["digest"] == pushed["digest"]
    assert files_of(tmp_path / "back") == files_of(folder)


def test_each_file_of_a_store_is_verified_also_where_two_have_one_content(
    model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = model("m")
    for name in ("0.safetensors", "z.safetensors"):
        (folder / name).write_bytes((folder / "model-00001-of-00003.safetensors").read_bytes())
    done("push", folder, tmp_path / "kept")
    assert done("verify", tmp_path / "kept/../kept/")["facts"]["whole"] == 8
    opened = open_stored(open_store(str(tmp_path / "kept"))).opened
    for name in ("0.safetensors", "model-00001-of-00003.safetensors", "z.safetensors"):
        content = (tmp_path / "kept" / name).read_bytes()
        (tmp_path / "kept" / name).write_bytes(bytes(len(content)))
        assert {file.path for file in verify_stored(opened).files if file.state != "ok"} == {name}
        (tmp_path / "kept" / name).unlink()
        assert {file.path: file.state for file in verify_stored(opened).files if file.state != "ok"} == {
            name: "missing"
        }
        (tmp_path / "kept" / name).write_bytes(content)
    assert verify_stored(opened).ok


def test_files_of_the_set_before_go_away_also_after_a_kill(
    stores: Stores, model: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = model("m", 3), model("n", 1, seed=2)
    done("push", first, "s3://models/x")
    stores.s3.on_put = lambda: setattr(stores.s3, "room", 1)  # it takes no more than the first word of the second push
    assert call("push", second, "s3://models/x").exit_code == 9
    assert ".registry-pipelines/before.json" in stores.objects("x")
    stores.s3.room = None
    found = done("push", second, "s3://models/x")
    assert found["facts"]["removed"] == 3 and not found["facts"]["strangers"]
    assert stores.objects("x") == {*files_of(second), *WHOLE}


def test_two_sets_that_go_to_one_prefix_at_once_are_both_refused(
    stores: Stores, model: Callable[..., Path], tmp_path: Path
) -> None:
    """The second begins and ends while the first is on its way, and both have other bytes of one size and name."""
    first, second = model("m"), model("n", seed=2)
    other: list[str] = []

    def push_the_other() -> None:
        begun = store_weights(from_folder(second)[0], store_at(load(Path("registry-pipelines.yaml")), "s3://models/x"))
        other.append(begun.descriptor.digest)

    def begun_by_us() -> None:
        stores.s3.on_put = push_the_other

    stores.s3.on_put = begun_by_us
    refused = call("push", first, "s3://models/x")
    assert other and refused.exit_code == 9
    assert "another push or sync put other weights there meanwhile" in refused.output
    assert call("verify", "s3://models/x").exit_code == 4
    done("push", first, "s3://models/x")
    assert done("verify", "s3://models/x")["facts"]["whole"] == 6
    assert {path: stores.read(f"x/{path}") for path in files_of(first)} == files_of(first)


def test_a_set_goes_into_no_place_within_its_own(model: Callable[..., Path], tmp_path: Path) -> None:
    """What a prefix keeps beside its files would be files of the other, and go away."""
    folder = model("m")
    done("push", folder, tmp_path / "kept")
    for source, target in (("kept", "kept/sub"), ("kept", ".")):
        refused = call("sync", tmp_path / source, tmp_path / target)
        assert refused.exit_code == 8 and "it lies within" in refused.output
    assert call("push", folder, folder / "sub").exit_code == 8
    assert done("sync", tmp_path / "kept", tmp_path / "kept-too")["facts"]["copied"] == 6


def test_a_list_names_an_artifact(model: Callable[..., Path], tmp_path: Path) -> None:
    done("push", model("m"), tmp_path / "kept")
    listed = json.loads((tmp_path / "kept" / "weights.json").read_text())
    (tmp_path / "kept" / "weights.json").write_text(json.dumps({**listed, "manifest": "\x1b[31mall is well"}))
    refused = call("verify", tmp_path / "kept")
    assert refused.exit_code == 6 and "names no digest" in refused.output


def test_a_folder_that_is_only_read_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["weights", "ls", "./typo"])
    assert told.exit_code == 4 and "no such folder" in told.stderr and not (tmp_path / "typo").exists()
