"""The commands as processes: signals, pipes, other people's tools."""

from __future__ import annotations

import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.answers import answered
from tests.chain.fleet import write_config
from tests.cli.test_bad_input import PROGRAM
from tests.doubles.certificates import make_certificates
from tests.patience import patient
from tests.ports import free_ports


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=patient(5)):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serve_announces_serves_and_ends(tmp_path: Path, how: signal.Signals) -> None:
    path = write_config(tmp_path)
    process = subprocess.Popen([*PROGRAM, "serve", "--json", "--config", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n") or text.count("{") != text.count("}"):
        text += process.stdout.readline()
    served = answered(text)["registries"]
    assert [each["name"] for each in served] == ["us", "eu", "gcp", "dmz", "private"]
    assert all(answers(each["url"] + "/v2/") for each in served)
    second = subprocess.run([*PROGRAM, "serve", "--config", str(path)], capture_output=True, text=True)
    assert second.returncode == 9 and "served by another process already" in second.stderr
    third = subprocess.run([*PROGRAM, "releases", "--json", "--config", str(path)], capture_output=True, text=True)
    assert (third.returncode, answered(third.stdout)) == (0, [])
    process.send_signal(how)
    assert process.wait(patient(30)) == 0
    process.stdout.close()
    assert not any(answers(each["url"] + "/v2/") for each in served)


def test_a_killed_server_leaves_no_lock(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    process = subprocess.Popen([*PROGRAM, "serve", "--config", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.kill()
    process.wait(patient(30))
    process.stdout.close()
    again = subprocess.run([*PROGRAM, "releases", "--json", "--config", str(path)], capture_output=True, text=True)
    assert (again.returncode, answered(again.stdout)) == (0, []), again.stderr


@pytest.mark.peer("skopeo")
def test_serve_with_tls_and_accounts_for_skopeo(tmp_path: Path, peer: Callable[[str], str]) -> None:
    import bcrypt

    made = make_certificates(tmp_path / "tls")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "ca.crt").write_bytes(made.ca.read_bytes())
    (tmp_path / "htpasswd").write_text(f"ann:{bcrypt.hashpw(b'word', bcrypt.gensalt(4)).decode()}\n")
    [port] = free_ports(1)
    options = ["--port", str(port), "--tls-cert", str(made.certificate), "--tls-key", str(made.key)]
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--root", str(tmp_path / "root"), *options, "--htpasswd", str(tmp_path / "htpasswd")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"https://127.0.0.1:{port} serves {tmp_path / 'root'}\n"
        look = [peer("skopeo"), "list-tags", "--cert-dir", str(tmp_path / "trusted")]
        found = {}
        for word in ("word", "wrong"):
            ran = subprocess.run(
                [*look, "--creds", f"ann:{word}", f"docker://127.0.0.1:{port}/a/b"], capture_output=True, text=True
            )
            found[word] = ran.stderr
        assert "404 (Not Found)" in found["word"]
        assert "unauthorized" in found["wrong"].lower()
    finally:
        process.terminate()
        assert process.wait(patient(30)) == 0
        process.stdout.close()


def test_a_closed_pipe_is_no_failure(tmp_path: Path) -> None:
    first = subprocess.Popen([*PROGRAM, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert first.stdout is not None and first.stderr is not None
    first.stdout.close()
    shown = first.stderr.read()
    first.stderr.close()
    assert (first.wait(patient(30)), shown) == (0, b"")
