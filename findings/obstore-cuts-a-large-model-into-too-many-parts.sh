#!/usr/bin/env bash
# Guess:   `obstore.put(store, key, file)` of a large file chooses parts that the store takes, as boto3 does: S3 takes 10,000 parts of an upload,
#          and 5 TiB in all.
# Happens: parts have 5 MiB (`chunk_size`) however large the file is, and whether its size is known or not. A model of more than 48.8 GiB (70
#          billion weights of 16 bits are 130) is sent for as long as that takes, and refused with part 10,001: InvalidArgument, in a
#          GenericError. Nothing is kept of it, and each retry sends it all again. boto3 raises the size of parts by itself. Tests with
#          small files never see it. Shown with parts of 64 bytes.
# Version: obstore 0.12.1, boto3 1.44.8 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'obstore==0.12.1' 'boto3==1.44.8'
export AWS_EC2_METADATA_DISABLED=true
venv/bin/python - <<'PY'
import http.server
import threading
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

from boto3.s3.transfer import TransferConfig
from obstore.store import S3Store
from s3transfer.utils import ChunksizeAdjuster

MOST = 10_000
seen = {"parts": 0, "highest": 0, "ended": []}
lock = threading.Lock()


class S3(http.server.BaseHTTPRequestHandler):
    """As much of S3 as an upload by parts needs, with its limit of parts (Amazon S3 multipart upload limits)."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploads" in self.path:
            self.answer(200, b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>")
            return
        seen["ended"].append("completed")
        self.answer(200, b'<CompleteMultipartUploadResult><ETag>"all"</ETag></CompleteMultipartUploadResult>')

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        part = int(parse_qs(urlsplit(self.path).query)["partNumber"][0])
        with lock:
            seen["parts"] += 1
            seen["highest"] = max(seen["highest"], part)
        if part > MOST:
            self.answer(400, b"<Error><Code>InvalidArgument</Code><Message>Part number must be between 1 and 10000</Message></Error>")
        else:
            self.answer(200, ETag='"part"')

    def do_DELETE(self):
        seen["ended"].append("dropped")
        self.answer(204)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), S3)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store(
    "models", endpoint=f"http://127.0.0.1:{server.server_port}", region="us-east-1", access_key_id="x", secret_access_key="x",
    virtual_hosted_style_request=False, client_options={"allow_http": True},
)
print(*(f"{name} {version(name)}" for name in ("obstore", "boto3")))


def put(size):
    seen.update(parts=0, highest=0, ended=[])
    try:
        store.put("weights", bytes(size), chunk_size=64, use_multipart=True, max_concurrency=1)
        return "written"
    except Exception as error:
        return f"{type(error).__name__}, InvalidArgument: {'InvalidArgument' in str(error)}"


for size, said, ended, highest in ((64 * MOST, "written", "completed", MOST), (64 * MOST + 1, "GenericError, InvalidArgument: True", "dropped", MOST + 1)):
    found = put(size)
    print(f"{size} bytes in parts of 64: {found}, {seen['parts']} parts sent, the upload was {seen['ended']}")
    assert (found, seen["ended"], seen["highest"]) == (said, [ended], highest), seen
server.shutdown()
large = 130 * 2**30
part = ChunksizeAdjuster().adjust_chunksize(TransferConfig().multipart_chunksize, large)
print(f"boto3's part for 130 GiB: {part // 2**20} MiB, {-(-large // part)} parts; of 5 MiB there were {-(-large // (5 * 2**20))}")
assert -(-large // part) <= MOST < -(-large // (5 * 2**20))
PY
