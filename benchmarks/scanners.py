"""The SBOM of an image in a registry, and its scan: ours beside syft, trivy and grype, and which packages each finds.

    sudo python benchmarks/scanners.py --work FOLDER [--runs 3] [--write]

The programs are those of ``.ci/build-scanners``. The image is Debian 12 by debootstrap, which needs root, with what
``pip install`` makes of ``REQUIREMENTS`` in a second layer; it is made in FOLDER once, and found by the next run. It
stands in a registry in a process of its own, on loopback. A first run knows nothing, ``again`` has what the first left.
The databases of trivy and grype hold one advisory, made by the programs' own libraries, as theirs come from the
internet; ours is asked with one, too: what is measured is finding packages. Documents are CycloneDX.

Ours holds each layer against both of its digests and reads what lies in wheels' shared libraries and programs; what the
others read is their own choice.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from packageurl import PackageURL

from benchmarks import measure
from benchmarks.wheel_builds import EmbeddedServerProcess
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.roots import debian_root
from tests.conftest import find_peer
from tests.scan.images import push_image

REQUIREMENTS = ("numpy", "pandas", "scipy", "scikit-learn", "pyarrow", "transformers", "onnxruntime", "jupyterlab")
ADVISORY = {"id": "CVE-2031-1001", "package": "numpy", "fixed": "99", "severity": "high", "summary": "made up"}
IMAGE = "bench/image:v1"


def found(name: str) -> str:
    """The path of a program; ends with what to do where it is missing."""
    return find_peer(name) or sys.exit(f"{name} is missing: .ci/build-scanners builds it")


def make(folder: Path) -> None:
    """The image in a registry's folder, the advisory as each program wants it; nothing where they are there."""
    if (folder / "made").exists():
        return
    for name in ("registry", "root", "packages", "databases"):
        shutil.rmtree(folder / name, ignore_errors=True)
    debian_root(folder / "root", "bookworm", found("debootstrap"))
    target = folder / "packages/opt/app"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(target), *REQUIREMENTS], check=True)
    with EmbeddedServerProcess(folder / "registry") as address, closing(DistributionRegistry(address)) as registry:
        tars = [tar_of(folder / each) for each in ("root", "packages")]
        push_image(Place(registry, IMAGE.partition(":")[0]), tars, tag="v1")
    told = {"made": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "advisories": [ADVISORY]}
    for kind in ("trivy", "grype"):
        (folder / "databases" / kind).mkdir(parents=True)
        command = [found(f"{kind}-database"), str(folder / "databases" / kind)]
        subprocess.run(command, input=json.dumps(told), text=True, check=True)
    (folder / "databases/ours").mkdir()
    (folder / "databases/ours/one.json").write_text(json.dumps(osv()))
    (folder / "made").touch()


def tar_of(root: Path) -> bytes:
    path = root.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        for each in sorted(root.iterdir()):
            if each.name not in ("dev", "proc", "sys"):
                tar.add(each, arcname=each.name)
    raw = path.read_bytes()
    path.unlink()
    return raw


def osv() -> dict[str, Any]:
    """The advisory as OSV has it."""
    events = [{"introduced": "0"}, {"fixed": ADVISORY["fixed"]}]
    affected = {
        "package": {"ecosystem": "PyPI", "name": ADVISORY["package"]},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    return {"id": ADVISORY["id"], "modified": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "affected": [affected]}


class Work:
    """The commands, each in a folder of its own unless it is to find what another left."""

    def __init__(self, folder: Path, reference: str) -> None:
        self._folder, self._reference = folder, reference
        self._numbers = itertools.count()
        shutil.rmtree(folder / "runs", ignore_errors=True)

    def fresh(self) -> Path:
        """An empty folder."""
        path = self._folder / "runs" / str(next(self._numbers))
        path.mkdir(parents=True)
        return path

    def ours(self, command: str, state: Path, document: Path | None = None) -> measure.Sample:
        words = ["--output", str(document)] if document else ["--advisories", str(self._folder / "databases/ours")]
        program = [str(Path(sys.executable).with_name("registry-pipelines")), command, self._reference, *words]
        # 3: the advisory was found, and the default policy permits none.
        shell = ["sh", "-c", '"$@"; code=$?; [ $code = 3 ] || exit $code', "sh"]
        return measure.run([*shell, *program], env={"XDG_STATE_HOME": str(state)})

    def syft(self, document: Path) -> measure.Sample:
        output = f"cyclonedx-json={document}"
        return measure.run([found("syft"), "--quiet", "scan", f"registry:{self._reference}", "-o", output], env=QUIET)

    def trivy(self, cache: Path, document: Path | None = None) -> measure.Sample:
        form = ["--format", "cyclonedx", "--output", str(document)] if document else ["--format", "json"]
        words = [*form, "--scanners", "vuln", "--image-src", "remote", "--quiet", "--cache-dir", str(cache)]
        if not (cache / "db").exists():
            shutil.copytree(self._folder / "databases/trivy/db", cache / "db")
        return measure.run([found("trivy"), "image", *words, self._reference], env=QUIET)

    def grype(self) -> measure.Sample:
        cache = {"GRYPE_DB_CACHE_DIR": str(self._folder / "databases/grype")}
        return measure.run([found("grype"), "--quiet", f"registry:{self._reference}", "-o", "json"], env=QUIET | cache)


ABOUT = f"""Debian 12 (debootstrap's minbase) and what pip makes of {", ".join(REQUIREMENTS)}, in two layers;
the registry is a process of its own on loopback. Ours holds each layer against both digests. The databases hold one
advisory: what is measured is finding packages. `again`: an image whose layers were read before, by us or by trivy;
grype and syft keep nothing of an image.

Where we are not ahead: of an image that is known trivy has its answer sooner. The npm packages that the others list are
`package.json` files that stand in no `node_modules`: of JupyterLab's tests, and of its built extensions. Packages of
the types generic, rpm and cargo are what wheels brought along."""

QUIET = {
    "SYFT_CHECK_FOR_APP_UPDATE": "false",
    "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    "GRYPE_DB_AUTO_UPDATE": "false",
    "GRYPE_DB_VALIDATE_AGE": "false",
    "TRIVY_SKIP_DB_UPDATE": "true",
    "TRIVY_OFFLINE_SCAN": "true",
    "TRIVY_SKIP_VERSION_CHECK": "true",
}


def packages(document: Path) -> set[tuple[str, str, str]]:
    """Type, name and version of the packages in a CycloneDX document. Without epochs: trivy writes them elsewhere."""
    urls = [PackageURL.from_string(each["purl"]) for each in components(json.loads(document.read_bytes()))]
    return {(url.type, url.name.lower().replace("_", "-"), (url.version or "").rpartition(":")[2]) for url in urls}


def components(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those with a package URL, also those within others."""
    for each in document.get("components", ()):
        if each.get("purl"):
            yield each
        yield from components(each)


def whole(folder: Path) -> Path:
    """The one document of a folder."""
    [path] = folder.glob("*.json")
    return path


def lists(work: Work) -> str:
    """A table of what each finds, by type; and what some have alone."""
    folder = work.fresh()
    work.ours("sbom", work.fresh(), folder / "ours")
    work.syft(folder / "syft.json")
    work.trivy(work.fresh(), folder / "trivy.json")
    there = {
        "ours": packages(whole(folder / "ours")),
        "syft": packages(folder / "syft.json"),
        "trivy": packages(folder / "trivy.json"),
    }
    kinds = sorted({kind for each in there.values() for kind, _, _ in each})
    lines = ["| packages | " + " | ".join(there) + " |", "|---|" + "---:|" * len(there)]
    for kind in kinds:
        counts = [sum(each[0] == kind for each in names) for names in there.values()]
        lines.append(f"| {kind} | " + " | ".join(map(str, counts)) + " |")
    said = [alone(name, names, there) for name, names in there.items()]
    return "\n".join(lines) + "\n\n" + "\n\n".join(said)


def alone(name: str, names: Iterable[tuple[str, str, str]], there: Mapping[str, set[tuple[str, str, str]]]) -> str:
    """Packages that one has and no other."""
    others = set().union(*(each for other, each in there.items() if other != name))
    own = sorted(set(names) - others)
    shown = ", ".join(f"{kind} {package} {version}".strip() for kind, package, version in own[:12])
    more = f", and {len(own) - 12} more" if len(own) > 12 else ""
    return f"Only {name}: {shown or 'nothing'}{more}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    folder = options.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    make(folder)
    with EmbeddedServerProcess(folder / "registry") as address:
        work = Work(folder, f"{address}/{IMAGE}")
        kept, cache = work.fresh(), work.fresh()
        work.ours("sbom", kept, work.fresh())
        work.trivy(cache, work.fresh() / "document")
        contenders: dict[str, Callable[[], measure.Sample]] = {
            "sbom": lambda: work.ours("sbom", work.fresh(), work.fresh()),
            "syft": lambda: work.syft(work.fresh() / "document"),
            "trivy, CycloneDX": lambda: work.trivy(work.fresh(), work.fresh() / "document"),
            "scan": lambda: work.ours("scan", work.fresh()),
            "grype": work.grype,
            "trivy, scan": lambda: work.trivy(work.fresh()),
            "scan, again": partial(work.ours, "scan", kept),
            "trivy, again": partial(work.trivy, cache),
        }
        samples = measure.interleave(contenders, runs=options.runs)
        sections = [
            ABOUT,
            "## SBOM\n\n" + measure.comparison({name: samples[name] for name in list(contenders)[:3]}, ours="sbom"),
            "## Scan\n\n" + measure.comparison({name: samples[name] for name in list(contenders)[3:6]}, ours="scan"),
            "## Scan of an image that is known\n\n"
            + measure.comparison({name: samples[name] for name in list(contenders)[6:]}, ours="scan, again"),
            "## What they find\n\n" + lists(work),
        ]
    print("\n\n".join(sections))
    if options.write:
        command = f"python benchmarks/scanners.py --work FOLDER --runs {options.runs} --write"
        measure.write_page("scanners", "Beside syft, trivy and grype", command, *sections)


if __name__ == "__main__":
    main()
