#!/usr/bin/env bash
# Guess:   in a TUF repository that delegates to each team a role of its own (`*.bin`, or the same folder, for all) a client finds what any of
#          them published, however many they are, or says that it gave up.
# Happens: python-tuf's client looks at 32 delegated roles for one target (`max_delegations`) and then returns None, which is also the answer
#          for "no such model". The only word is a line for debugging. The 33rd team publishes, its metadata is valid and in the
#          snapshot, and no client with the client's own settings sees it. Which team that is, their order in `delegations` says.
#          Patterns that differ by team cost nothing: only roles whose pattern fits are counted.
# Version: tuf 7.0.1, securesystemslib 1.6.0 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'tuf==7.0.1' 'securesystemslib[crypto]==1.6.0'
venv/bin/python - <<'PY'
import logging
import tempfile
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import (
    DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp,
)
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

TEAMS = 40
key = CryptoSigner.generate_ed25519()
name = key.public_key.keyid
until = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)


def repository(pattern):
    """All files of a repository whose teams have the pattern, each with one model."""
    root = Root(expires=until, consistent_snapshot=False)
    for role in ("root", "timestamp", "snapshot", "targets"):
        root.add_key(key.public_key, role)
    snapshot, top = Snapshot(expires=until), Targets(expires=until)
    parts = {"root": root, "timestamp": Timestamp(expires=until), "snapshot": snapshot, "targets": top}
    roles = {}
    for number in range(1, TEAMS + 1):
        team = f"team{number}"
        roles[team] = DelegatedRole(team, [name], 1, False, paths=[pattern.format(team)])
        parts[team] = Targets(expires=until)
        parts[team].targets[f"{team}.bin"] = TargetFile.from_data(f"{team}.bin", b"weights")
        snapshot.meta[f"{team}.json"] = MetaFile(1)
    top.delegations = Delegations({name: key.public_key}, roles)
    signed = {}
    for part, content in parts.items():
        metadata = Metadata(content)
        metadata.sign(key)
        signed[f"{part}.json"] = metadata.to_bytes()
    return signed


class Files(FetcherInterface):
    def __init__(self, files):
        self.files, self.asked = files, []

    def _fetch(self, url):
        self.asked.append(url.rsplit("/", 1)[1])
        if self.asked[-1] not in self.files:
            raise DownloadHTTPError("not there", 404)
        yield self.files[self.asked[-1]]


class Said(logging.Handler):
    def emit(self, record):
        if record.levelno > logging.DEBUG:
            words.append(record.getMessage())


words = []
logging.getLogger("tuf").addHandler(Said())
print("tuf", version("tuf"), "max_delegations", UpdaterConfig().max_delegations)
found = {}
for pattern in ("*.bin", "{}.bin"):
    files = repository(pattern)
    for number in (1, 32, 33, 40):
        fetcher = Files(files)
        client = Updater(tempfile.mkdtemp(dir="."), "https://models.example/", fetcher=fetcher, bootstrap=files["root.json"])
        target = client.get_targetinfo(f"team{number}.bin")
        found[pattern, number] = target is not None
        print(f"pattern {pattern}: team{number}.bin {'found' if target else None}, {len(fetcher.asked)} files asked for")
print("said above debugging:", words)
assert all(there == (pattern != "*.bin" or number <= 32) for (pattern, number), there in found.items())
assert words == []
PY
