"""How long `serve-admission` takes for a review of a pod whose release it knows, beside the server's bare answer.

    python benchmarks/admission.py [--reviews 3000] [--clients 4]

A process of its own serves; each client keeps a connection, as an API server does. Believe the ratio to the bare
answer: the rest is TLS, sockets and how busy the machine is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.chain.fleet import start
from tests.doubles.api_server import ApiServer
from tests.doubles.certificates import make_certificates
from tests.ports import free_ports
from tests.promote.admission.workload_objects import pod

SERVE = "from registry_pipelines.cli import main; main()"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--reviews", type=int, default=3000)
    options.add_argument("--clients", type=int, default=4)
    chosen = options.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = start(folder, stack)
        release = fleet.release("v1.0.0")
        assert fleet.judged(release)
        fleet.chain.promote(release)
        certificates = make_certificates(folder / "tls")
        (port,) = free_ports(1)
        lines = {"host": "127.0.0.1", "port": port, "tls_cert": certificates.certificate, "tls_key": certificates.key}
        text = "".join(f"  {name}: {value}\n" for name, value in lines.items())
        fleet.path.write_text(fleet.path.read_text() + f"admission:\n{text}  keep: 1h\n")
        command = [sys.executable, "-c", SERVE, "serve-admission", "--config", str(fleet.path), "--quiet"]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stdout
        process.stdout.readline()
        image = f"{fleet.chain.place('app')}@{release.digest}"
        bundle = certificates.ca.read_bytes()
        api = ApiServer(port, bundle)
        began = time.perf_counter()
        assert api.create(pod(image)).allowed
        print(f"first review of a digest: {(time.perf_counter() - began) * 1000:.0f} ms")
        api.close()
        each = max(1, chosen.reviews // chosen.clients)
        bare = measure(port, bundle, chosen.clients, each, "GET", b"", "/healthz")
        review = json.dumps(body(image)).encode()
        told = measure(port, bundle, chosen.clients, each, "POST", review, "/validate")
        for name, times in (("bare answer", bare), ("review of a known digest", told)):
            cuts = statistics.quantiles(times, n=100)
            print(f"{name}: median {cuts[49] * 1000:.2f} ms, p99 {cuts[98] * 1000:.2f} ms, {len(times)} of them")


def body(image: str) -> dict[str, object]:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": "u", "kind": kind, "operation": "CREATE", "namespace": "apps", "object": pod(image)}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def measure(port: int, bundle: bytes, clients: int, each: int, method: str, raw: bytes, path: str) -> list[float]:
    """Seconds of each answer, over a connection for each client."""
    times: list[float] = []

    def ask() -> None:
        api = ApiServer(port, bundle)
        api.send(path, raw, method)
        for _ in range(each):
            began = time.perf_counter()
            status, _ = api.send(path, raw, method)
            times.append(time.perf_counter() - began)
            assert status == 200
        api.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


if __name__ == "__main__":
    main()
