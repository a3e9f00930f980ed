#!/usr/bin/env bash
# Guess:   a model that one machine downloaded with huggingface_hub (`local_dir`) and signed with model-signing is verified on another that
#          downloaded the same revision: its files are the same, and model-signing leaves git's own files out by itself.
# Happens: huggingface_hub keeps notes in `local_dir`/.cache/huggingface, one for each file, with the time of the download in it. model-signing
#          leaves out .git, .gitignore and .gitattributes, and signs those: the second machine gets "Hash mismatch for '.cache/...'", and a
#          file that is fetched again breaks the signature on the first, too. In the shared cache (without `local_dir`) each file is a
#          symlink, which model-signing refuses by default. Signing with `.cache` among the ignored paths helps.
# Version: model-signing 1.1.1, sigstore 4.5.1, pyOpenSSL 26.4.0, huggingface_hub 2.4.0 (PyPI). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'model-signing==1.1.1' 'sigstore==4.5.1' 'pyopenssl==26.4.0' 'huggingface_hub==2.4.0'
HF_HOME=$folder/home HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_PROGRESS_BARS=1 venv/bin/python - <<'PY'
import hashlib
import http.server
import json
import os
import threading
import time
from importlib.metadata import version
from pathlib import Path

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


class Hub(http.server.BaseHTTPRequestHandler):
    """One revision of one model."""

    def do_GET(self):
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[1]
        content = FILES.get(name)
        if "/tree/" in path:
            content = json.dumps([{"type": "file", "path": f, "oid": hashlib.sha1(c).hexdigest(), "size": len(c)} for f, c in FILES.items()]).encode()
        elif path.startswith("/api/"):
            content = json.dumps({"id": "team/model", "sha": "a" * 40, "siblings": [{"rfilename": f} for f in FILES]}).encode()
        self.send_response(200 if content else 404)
        self.send_header("ETag", f'"{hashlib.sha1(content or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from huggingface_hub import snapshot_download
from model_signing import hashing, signing, verifying

key = ec.generate_private_key(ec.SECP256R1())
Path("k").write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
Path("k.pub").write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
for machine in ("first", "second"):
    snapshot_download("team/model", local_dir=machine)
    time.sleep(0.1)
assert all(Path("first", name).read_bytes() == Path("second", name).read_bytes() for name in FILES)
print("model-signing", version("model-signing"), "huggingface_hub", version("huggingface_hub"))


def said(act):
    try:
        act()
        return "verified"
    except ValueError as error:
        return str(error).replace(os.getcwd(), "")[:150]


signing.Config().use_elliptic_key_signer(private_key="k").sign("first", "signature")
answers = {}
for machine in ("first", "second"):
    answers[machine] = said(lambda: verifying.Config().use_elliptic_key_verifier(public_key="k.pub").verify(Path(machine), Path("signature")))
    print(f"signed on the first, verified on the {machine}:", answers[machine])
cached = said(lambda: signing.Config().use_elliptic_key_signer(private_key="k").sign(snapshot_download("team/model"), "other"))
print("the shared cache, signed:", cached)
config = hashing.Config().set_ignored_paths(paths=[".cache"])
signing.Config().use_elliptic_key_signer(private_key="k").set_hashing_config(config).sign("first", "signature")
without = said(lambda: verifying.Config().use_elliptic_key_verifier(public_key="k.pub").verify(Path("second"), Path("signature")))
print("signed without .cache, verified on the second:", without)
assert answers["first"] == "verified" and "Hash mismatch for" in answers["second"] and ".cache/huggingface/" in answers["second"]
assert "symlink" in cached and without == "verified"
PY
