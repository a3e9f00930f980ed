"""What is wrong reaches a person as one clear message and a program as an exit code; nothing is half written."""

from __future__ import annotations

import gzip
import http.server
import io
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.errors import EXIT_CODES, guarded
from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from tests.answers import answered, document
from tests.chain.fleet import Fleet, push, start, write_advisory
from tests.needs import needed_module
from tests.patience import patient
from tests.scan.images import push_image

PROGRAM = [sys.executable, "-c", "from registry_pipelines.cli import main; main(prog_name='registry-pipelines')"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path_factory.mktemp("fleet"), stack)


def fails(code: int, said: str, *arguments: str | Path) -> Result:
    """Run it for a person and for a program: both get the code, one message, no traceback."""
    words = [str(each) for each in arguments]
    shown = CliRunner().invoke(main, words)
    assert (shown.exit_code, said in shown.stderr) == (code, True), shown.output
    assert "Traceback" not in shown.stderr and shown.stderr.count("error: ") == 1
    told = CliRunner().invoke(main, [*words, "--json"])
    found = answered(told.stdout)
    assert told.exit_code == code and found["ok"] is False and found["exit_code"] == code
    return shown


def reference(place: Place, tag: str) -> str:
    return f"{place}:{tag}"


def test_no_configuration_or_a_bad_one(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REGISTRY_PIPELINES_CONFIG", raising=False)
    assert "registry-pipelines init" in fails(8, "there is no configuration", "releases").stderr
    fails(8, "No such file", "config", "check", "--config", tmp_path / "none.yaml")
    bad = tmp_path / "registry-pipelines.yaml"
    bad.write_text("registries: [\n")
    fails(8, "is not valid YAML", "releases")
    bad.write_text("registries:\n  a: {kind: embedded, port: 1, prot: 2}\nimages:\n  x: {registry: b, repository: x}\n")
    text = fails(
        8, "registry-pipelines.yaml:2: registries.a.prot: unknown field `prot`; did you mean `port`?", "config", "check"
    ).stderr
    assert "registry-pipelines.yaml:4: images.x.registry: unknown registry `b`" in text
    told = CliRunner().invoke(main, ["config", "check", "--json"])
    assert len(answered(told.stdout)["error"]["problems"]) == 2
    bad.write_text("registries: {}\nschedules: {mirror: '*/90 * * * *'}\n")
    told = CliRunner().invoke(main, ["config", "check"])
    assert told.exit_code == 0
    # Lines are broken somewhere, by the length of the path.
    assert ":2:schedules.mirror:'*/90'meansminute0ofeachhour" in "".join(told.stdout.split())
    [note] = answered(CliRunner().invoke(main, ["config", "check", "--json"]).stdout)["notes"]
    assert note.startswith(str(bad))


def test_names_that_do_not_exist(fleet: Fleet) -> None:
    config = ("--config", fleet.path)
    fails(8, "unknown image `ap`; did you mean `app`?", "sign", "ap:v1", *config)
    fails(8, "did you mean `app`? Name an image", "sign", "ap:v1", *config)
    fails(8, "unknown mirror `nowhere`", "mirror", "nowhere", *config)
    for registry in ("us", "eu.example.com", "localhost:5000"):  # else images of Docker Hub
        fails(8, f"Write {registry}/REPOSITORY", "copy", "us/team/app:v1.0.0", registry, *config)
    fails(8, "Write ghcr.io/REPOSITORY", "inspect", "ghcr.io")
    fails(8, "unknown registry `mars`", "collect", "plan", "mars", *config)
    fails(8, "unknown target `mars`", "replicate", fleet.release("v1.0.0").key, "--target", "mars", *config)
    fails(8, "unknown target `mars`", "replicate", fleet.release("v1.0.0").key, "--check", "--target", "mars", *config)
    fails(8, "is not a repository name", "inspect", "us/UPPER:x", *config)
    fails(8, "is not a digest", "inspect", "us/a@sha256:12", *config)
    fails(8, "is not a platform", "copy", "us/team/app:v1.0.0", "eu/x", "--platform", "linux", *config)


def test_what_is_not_there(fleet: Fleet) -> None:
    config = ("--config", fleet.path)
    fails(4, "127.0.0.1", "inspect", "us/team/none:v1", *config)
    fails(4, "127.0.0.1", "judge", "app:v9.9.9", *config)
    fails(4, "127.0.0.1", "copy", "us/team/none:v1", "eu/x", *config)


def test_wrong_credentials(tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        port = fleet.path.read_text().partition("us: {kind: embedded, port: ")[2].partition("}")[0]
        stack.close()
        text = fleet.path.read_text().replace(f"port: {port}", f"port: {port}, users: {{robot: '${{PW}}'}}")
        fleet.path.write_text(text)
        environment = {"PW": "right-word", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        server = subprocess.Popen(
            [*PROGRAM, "serve", "--config", str(fleet.path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        for _ in range(5):
            server.stdout.readline()
        try:
            for word, code in (("wrong-word", 5), ("right-word", 0)):
                ran = subprocess.run(
                    [*PROGRAM, "releases", "--config", str(fleet.path)],
                    env={**environment, "PW": word}, capture_output=True, text=True,
                )  # fmt: skip
                assert ran.returncode == code, ran.stderr
                assert "-word" not in ran.stderr + ran.stdout and "Traceback" not in ran.stderr
            missing = subprocess.run(
                [*PROGRAM, "releases", "--config", str(fleet.path)],
                env={key: value for key, value in environment.items() if key != "PW"}, capture_output=True, text=True,
            )  # fmt: skip
            assert missing.returncode == 8 and "the environment variable PW is not set" in missing.stderr
        finally:
            server.terminate()
            assert server.wait(patient(30)) == 0
            server.stdout.close()


def test_damaged_content_is_not_copied(fleet: Fleet) -> None:
    place = fleet.chain.place("tool")
    made = push(place, "v1.0.0", package="damaged", provenance=False)
    content = place.registry.get_manifest(place.repository, made.digest).content()
    assert isinstance(content, Manifest)
    layer = content.layers[0].digest
    [blob] = (fleet.config.state / "registries" / "us").rglob(layer.hex)
    raw = bytearray(blob.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    blob.chmod(0o644)
    blob.write_bytes(raw)
    config = ("--config", fleet.path)
    fails(6, layer, "copy", "us/team/tool:v1.0.0", "eu/damaged", *config)
    for known in ("v1.0.0", str(made.digest)):
        with pytest.raises(NotFound):
            fleet.chain.registry("eu").resolve("damaged", known)
    assert fleet.chain.registry("eu").blob_size("damaged", layer) is None
    fails(6, "", "sbom", f"us/team/tool@{made.digest}", *config)


def layer_with(name: str, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.LNKTYPE, link
        tar.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(layer_with("../../etc/passwd"), id="dots"),
        pytest.param(layer_with("etc/x", link="../../outside"), id="hard link that leaves"),
        pytest.param(b"this is not a tar" * 100, id="no tar"),
        pytest.param(layer_with("etc/x")[:700], id="truncated"),
    ],
)
def test_layers_that_are_not_safe(fleet: Fleet, content: bytes) -> None:
    place = Place(fleet.chain.registry("us"), "hostile/app")
    push_image(place, [content], tag="v1")
    fails(6, "hostile/app", "scan", reference(place, "v1"), "--config", fleet.path)


def test_a_manifest_of_five_mebibytes_is_not_read() -> None:
    class Large(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b" " * (5 * 1024 * 1024)
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Large) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            fails(6, "larger than 4194304 bytes", "inspect", f"127.0.0.1:{server.server_port}/a/b:x")
        finally:
            server.shutdown()


def test_a_slip_in_a_name_never_goes_to_docker_hub(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a name that is nothing like any; with no configuration at hand, none that stands alone does."""
    config = ("--config", fleet.path)
    commands: list[tuple[str, tuple[str, ...]]] = [
        *((command, ()) for command in ("sbom", "scan", "verify", "inspect", "ls")),
        ("verify", ("--key", "none.pub")),
        ("copy", ("eu/x",)),
        ("verify-copy", ("eu/x:1",)),
    ]
    for command, more in commands:
        shown = fails(8, "unknown image `tol`; did you mean `tool`?", command, "tol", *more, *config)
        assert "docker.io/library/tol" in shown.stderr
        fails(8, "unknown image `xyz`; there are: app, tool", command, "xyz", *more, *config)
        fails(8, "unknown registry `gpc`; did you mean `gcp`?", command, "gpc/team/tool:v1", *more, *config)
    fails(8, "docker.io/gpc/team/tool:v1", "inspect", "gpc/team/tool:v1", *config)
    fails(8, "unknown image `ap`; did you mean `app`?", "copy", "us/team/app:v1.0.0", "ap", *config)
    fails(8, "copied by `replicate`", "copy", "us/team/app:v1.0.0", "app:v1.0.0", *config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REGISTRY_PIPELINES_CONFIG", raising=False)
    shown = fails(8, "'tool' names no registry, and there is no configuration", "inspect", "tool")
    assert "docker.io/library/tool" in shown.stderr


def test_a_release_is_named_in_one_way_everywhere(fleet: Fleet) -> None:
    """Also where it is one of several things that may be named."""
    release = fleet.release("v6.0.0", image="tool")
    config = ("--config", str(fleet.path))
    shown = CliRunner().invoke(main, ["inspect", "tool:v6.0.0", "--json", *config])
    assert answered(shown.stdout)["digest"] == release.digest
    copied = CliRunner().invoke(main, ["copy", "tool:v6.0.0", "eu/kept", *config])
    assert copied.exit_code == 0, copied.output
    compared = CliRunner().invoke(main, ["verify-copy", "tool:v6.0.0", "eu/kept", *config])
    assert compared.exit_code == 0, compared.output
    assert fleet.chain.registry("eu").resolve("kept", "v6.0.0").digest == release.digest


def test_a_wrong_password_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before pip is asked and before layers are read, each of which would end with another message here."""
    monkeypatch.setenv("KEY_WORD", "wrong")
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        push(fleet.chain.place("tool"), "v1")
        for path in (tmp_path / ".registry-pipelines/registries/us/team/tool/blobs/sha256").iterdir():
            if path.read_bytes().startswith(b"\x1f\x8b"):
                path.unlink()
        generate_key(tmp_path / "locked.key", password="right")
        (tmp_path / "wheels").mkdir()
        locked = "signing: {key: locked.key, password: '${KEY_WORD}'}"
        text = fleet.path.read_text().replace("signing: {generate: true}", locked)
        fleet.path.write_text(
            text.replace("app: {", "app: {build: {version: v1, requirements: [none], wheels: wheels}, ")
        )
        for command in (("build", "app"), ("sbom", "tool:v1"), ("scan", "tool:v1"), ("sign", "tool:v1")):
            fails(8, "wrong password", *command, "--config", fleet.path)
        fails(8, "wrong password", "judge", "tool:v1", "--config", fleet.path)


def test_a_key_that_is_not_there_names_what_makes_it(fleet: Fleet) -> None:
    release = fleet.release("v5.0.0")
    fleet.reload(("signing: {generate: true}", "signing: {generate: false}"))
    for command in ("sign", "judge"):
        shown = fails(8, "key file cannot be read", command, release.key, "--config", fleet.path)
        assert "registry-pipelines sign --generate-key" in shown.stderr


def test_a_registry_that_does_not_answer() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        fails(7, address, "inspect", f"{address}/a/b:x")


def test_advisories_that_are_missing_broken_or_too_old(fleet: Fleet, tmp_path: Path) -> None:
    place = fleet.chain.place("tool")
    push(place, "v2.0.0", provenance=False)
    target = reference(place, "v2.0.0")
    config = ("--config", fleet.path)
    fails(8, "none.zip", "scan", target, "--advisories", tmp_path / "none.zip", *config)
    (tmp_path / "broken.tar.gz").write_bytes(gzip.compress(b"x" * 2000)[:40])
    fails(8, "broken.tar.gz", "scan", target, "--advisories", tmp_path / "broken.tar.gz", *config)
    write_advisory(tmp_path / "old", modified=datetime(2024, 10, 10, tzinfo=UTC))
    fails(8, "days old; 7 are permitted", "scan", target, "--advisories", tmp_path / "old", "--max-age", "7", *config)
    write_advisory(fleet.folder / "advisories", modified=datetime(2024, 10, 10, tzinfo=UTC))
    release = fleet.release("v4.0.0", image="tool", package="fine")
    assert not fleet.judged(release)
    refused = fails(3, "2024-10-10", "promote", release.key, *config)
    assert "advisories" in refused.stderr
    changed = tmp_path / "missing.yaml"
    text = fleet.path.read_text().replace("source: advisories", "source: nowhere")
    changed.write_text(f"state: {fleet.config.state}\n{text}")
    fails(8, "nowhere", "scan", release.key, "--config", changed)


def test_a_port_that_is_taken(fleet: Fleet, tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        path = tmp_path / "registry-pipelines.yaml"
        path.write_text(f"registries: {{a: {{kind: embedded, port: {port}}}}}\n")
        fails(9, f"127.0.0.1:{port}: another program listens there", "serve", "--config", path)
        fails(9, f"127.0.0.1:{port}", "serve", "--root", tmp_path / "root", "--port", str(port))
    fails(9, "served by another process already", "serve", "--config", fleet.path)


def test_options_that_do_not_fit(fleet: Fleet, tmp_path: Path) -> None:
    config = ("--config", fleet.path)
    fails(8, "need --root", "serve", "--port", "1", *config)
    empty = tmp_path / "empty.yaml"
    empty.write_text("registries: {}\n")
    fails(8, "has no embedded registry", "serve", "--config", empty)
    fails(8, "together", "serve", "--root", tmp_path, "--tls-cert", "x")
    fails(8, "takes no release", "sign", "app", "--generate-key", *config)
    fails(8, "need a REGISTRY", "collect", "plan", "--save", "x", *config)
    fails(8, "no trusted key is named", "verify", "127.0.0.1:1/a/b:x")
    fails(8, "judged by its policy", "scan", "app:v1.0.0", "--max-age", "3", *config)
    for usage in (["copy"], ["nothing"], ["inspect"], ["scan", "x", "--max-age", "many"], ["serve", "--port", "70000"]):
        assert CliRunner().invoke(main, usage).exit_code == 2


def test_what_nobody_expected(capfd: pytest.CaptureFixture[str]) -> None:
    @click.group()
    def program() -> None: ...

    @program.command("demo")
    @common
    def broken(options: Options) -> None:
        _ = 1 / 0

    told = CliRunner().invoke(program, ["demo", "--json"])
    assert told.stderr.startswith("error: unexpected ZeroDivisionError: division by zero") and "--debug" in told.stderr
    assert "Traceback" not in told.stderr and document(told.stdout)["exit_code"] == 1
    assert guarded(lambda: 1 / 0, as_json=False, debug=True) == 1
    assert "Traceback" in capfd.readouterr().err

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted, as_json=False, debug=False) == 130


def test_every_error_has_a_documented_exit_code() -> None:
    def below(kind: type[RegistryPipelinesError]) -> Iterator[type[RegistryPipelinesError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from below(each)

    assert {kind.exit_code for kind in below(RegistryPipelinesError)} <= set(EXIT_CODES)


def test_longer_ago_than_there_were_dates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("registry-pipelines.yaml").write_text("registries: {}\n")
    done = CliRunner().invoke(main, ["sweep", "run", "lag", "--since", "9999999w"])
    assert done.exit_code == 2 and "there were no dates" in done.stderr


def test_an_address_of_a_database_that_is_wrong_is_what_to_correct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("psycopg", "postgres")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGISTRY_PIPELINES_DATABASE", "postgresql://me:s3cret@127.0.0.1:1/x?connect_timeout=soon")
    Path("registry-pipelines.yaml").write_text("registries: {}\n")
    done = CliRunner().invoke(main, ["state", "show"])
    assert done.exit_code == 9 and "Correct the address" in done.stderr and "s3cret" not in done.output


@pytest.mark.parametrize("address", ["postgresql://[x", "postgresql://me:s3cret@h:port/db", "postgresql://"])
def test_an_address_that_leads_to_no_database_is_told_before_it_is_used(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PIPELINES_DATABASE", address)
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text("registries: {}\n")
    done = CliRunner().invoke(main, ["config", "check", "--config", str(path)])
    assert done.exit_code == 8 and "REGISTRY_PIPELINES_DATABASE is not the address of a" in done.stderr
    assert "s3cret" not in done.output
