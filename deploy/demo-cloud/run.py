"""``make demo-cloud``: the chain over ECR and Artifact Registry, on doubles of both clouds on this machine.

The doubles are those of the tests (``tests/doubles``): they check each request and answer against the clouds' own API
models, and keep their rules. Nothing leaves this machine but pip, which fetches the packages of the two images.

    make demo-cloud              the chain, the settings of both clouds, a drift; then the Dagster UI until Ctrl-C
    make demo-cloud ARGS=--once  without the UI
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP))  # the doubles belong to the checkout, not to the package

from registry_pipelines.registry.ecr.access import AwsAccess  # noqa: E402
from registry_pipelines.registry.embedded import EmbeddedServer  # noqa: E402
from tests.doubles.aws.ecr import EcrDouble  # noqa: E402
from tests.doubles.aws.front import ACCOUNT  # noqa: E402
from tests.doubles.google import GoogleCloud  # noqa: E402
from tests.doubles.google.accounts import service_account_file  # noqa: E402

CONFIG = HERE / "registry-pipelines.yaml"
PROGRAM = [str(Path(sys.executable).with_name("registry-pipelines"))]
AWAY = "us-east-1"
DRIFTED = DENIED = 3
"""Exit codes of ``infra drift`` and of ``status`` where an image is denied."""


@contextmanager
def clouds(folder: Path) -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    """Both clouds, listening; what the configuration wants to know of them, and a hand that changes a setting."""
    with ExitStack() as stack:
        here = stack.enter_context(EmbeddedServer(folder / "eu-west-1", port=0))
        there = stack.enter_context(EmbeddedServer(folder / AWAY, port=0))
        aws = EcrDouble(here.address)
        away = aws.add(ACCOUNT, AWAY, there.address)
        stack.enter_context(aws)
        google = stack.enter_context(GoogleCloud(folder / "google"))
        google.repository("ml-prod", "europe-west1", "models")
        plane = google.registry("europe-west1")
        key = service_account_file(google.world, folder / "google-key.json", google.endpoint)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]  # a real account must not be meant by accident
        environment = {
            **aws.environment,
            "DEMO_AWS": aws.url,
            "DEMO_ECR_EU": aws.proxy_address,
            "DEMO_ECR_US": away,
            "DEMO_GOOGLE": google.endpoint,
            "DEMO_GAR_EU": plane.address,
            "DEMO_GOOGLE_KEY": str(key),
            "DEMO_STATE": str(folder / "state"),
        }
        os.environ.update(environment)

        def meddle() -> None:
            """Somebody changes a repository in the console."""
            ecr = AwsAccess("eu-west-1", endpoint=aws.url).client("ecr")
            ecr.put_image_scanning_configuration(
                repositoryName="ml/forecaster", imageScanningConfiguration={"scanOnPush": False}
            )

        yield environment, meddle


def step(title: str, *arguments: str, expect: int = 0) -> None:
    """One command of the program, with the configuration; the exit code must be the expected one."""
    print(f"\n== {title}\n$ registry-pipelines {' '.join(arguments)}", flush=True)
    with subprocess.Popen([*PROGRAM, *arguments, "--config", str(CONFIG)]) as process:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                continue  # the program was told, too, and ends by itself
    if code != expect:
        raise SystemExit(f"demo-cloud: `{' '.join(arguments)}` ended with {code}, {expect} was expected")


def look(folder: Path, *jobs: str) -> None:
    """Jobs of Dagster, so that the UI has what they see."""
    environment = {
        **os.environ,
        "REGISTRY_PIPELINES_CONFIG": str(CONFIG),
        "DAGSTER_HOME": str(folder / "state" / "dagster"),
    }
    for job in jobs:
        print(f"$ dagster job execute -j {job}", flush=True)
        command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "dagster_project.definitions", "-j", job]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"demo-cloud: job {job} failed\n{done.stderr[-3000:]}")


def main() -> None:
    """See the module."""
    once = "--once" in sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="registry-pipelines-cloud-") as folder, clouds(Path(folder)) as (_, meddle):
        step("What both clouds lack of what is declared", "infra", "plan")
        step("Make it so", "infra", "apply")
        step("Build, scan, sign, judge, promote, replicate: by Dagster", "demo")
        step("Where the images stand: one ships, one is denied (exit 3)", "status", expect=DENIED)
        step("Every registry answers", "doctor")
        step("Settings are as declared", "infra", "drift")
        look(Path(folder), "infra", "lag")
        meddle()
        step("Somebody switched scan on push off: that is drift", "infra", "drift", expect=DRIFTED)
        look(Path(folder), "infra")
        step("Where should EKS in us-east-1 pull from?", "advise", "gar-eu/ml-prod/models/ml/forecaster:v1.0.0",
             "--nodes", AWAY)  # fmt: skip
        if not once:
            step("The Dagster UI, until Ctrl-C: assets replica/*, infra/* with their drift, replication_lag",
                 "dev", *[each for each in sys.argv[1:] if each != "--once"])  # fmt: skip


if __name__ == "__main__":
    main()
