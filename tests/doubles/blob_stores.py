"""Azure Blob Storage on loopback, by a server that is not ours: Azurite, which Microsoft writes for tests
(`.ci/install-azurite`).

There is none like it for Google: obstore uses the XML API, of which fake-gcs-server has no uploads
(``findings/fake-gcs-server-takes-no-xml-upload.sh``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.patience import patient
from tests.ports import free_ports

BUCKET = "backups"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every emulator of Azure's storage; Microsoft publishes it."""
START_TIMEOUT_S = patient(60)


@contextmanager
def azure_server(peer: Callable[[str], str], folder: Path) -> Iterator[str]:
    """An address below which images can lie; meanwhile the environment has credentials for it."""
    [port] = free_ports(1)
    words = (
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
        "--blobHost",
        "127.0.0.1",
        "--location",
        str(folder),
    )
    with _running((peer("../azurite/node_modules/.bin/azurite-blob"), *words, "--blobPort", str(port))):
        _wait(f"http://127.0.0.1:{port}/")
        _make_container(port)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
            patch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{port}")
            yield f"az://{BUCKET}"


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(patient(30))


def _wait(address: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(address, timeout=patient(5)).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.1)


def _make_container(port: int) -> None:
    """By Azure's own way to sign (Shared Key), since obstore makes none."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    signed = (
        f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    )
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
    address = f"http://127.0.0.1:{port}/{ACCOUNT}/{BUCKET}?restype=container"
    urllib.request.urlopen(urllib.request.Request(address, method="PUT", headers=headers), timeout=patient(30)).close()
