#!/usr/bin/env bash
# Guess:   pip asks an index at every run whether a project's page changed (it always sent `Cache-Control: max-age=0`), so a
#          version that was published a minute ago is found.
# Happens: pip 25.3 asks. pip 26.3 believes a page for as long as the index says (`max-age`) and does not ask: the
#          new version is not found, status 0. `--refresh-package :all:` (new) asks again, with the ETag.
# Version: pip 25.3 and 26.3. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
for pip in 25.3 26.3; do
    python3 -m venv "$folder/$pip"
    "$folder/$pip/bin/python" -m pip install -q --disable-pip-version-check "pip==$pip"
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
python3 - "$folder" <<'PY'
import base64, hashlib, http.server, json, os, pathlib, ssl, subprocess, sys, threading, zipfile

folder = pathlib.Path(sys.argv[1])
wheels = {}


def make(version):
    info = f"leaf-{version}.dist-info"
    files = {
        "leaf.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: leaf\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}"
        for name, content in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"leaf-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    wheels[path.name] = path.read_bytes()


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        page = "".join(f'<a href="/f/{each}">{each}</a>' for each in sorted(wheels)).encode()
        content = wheels.get(name, page)
        if self.path != "/simple/leaf/" and name not in wheels:
            return self.send_error(404)
        asked.append(self.path)
        self.send_response(200)
        for head in (("Content-Type", "text/html"), ("Cache-Control", "max-age=600"), ("ETag", f'"{len(wheels)}"')):
            self.send_header(*head)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
found = {}
for pip in ("25.3", "26.3"):
    wheels.clear()
    make("1.0")
    for step, options in (("first", []), ("published", []), ("refreshed", ["--refresh-package", ":all:"])):
        if step == "published":
            make("2.0")
        if step == "refreshed" and pip == "25.3":
            continue
        asked = []
        report = folder / "report.json"
        env = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_CACHE_DIR": str(folder / f"cache-{pip}")}
        env |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(folder / "cert.pem"))
        command = [folder / pip / "bin/python", "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
        command += ["--disable-pip-version-check", "--report", report, *options]
        command += ["-i", f"https://localhost:{server.server_port}/simple/", "leaf"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        [item] = json.loads(report.read_bytes())["install"]
        found[pip, step] = item["metadata"]["version"], "/simple/leaf/" in asked
        print(f"pip {pip}, {step}: status {done.returncode}, version and whether the page was asked for: {found[pip, step]}")
wanted = {
    ("25.3", "first"): ("1.0", True),
    ("25.3", "published"): ("2.0", True),
    ("26.3", "first"): ("1.0", True),
    ("26.3", "published"): ("1.0", False),
    ("26.3", "refreshed"): ("2.0", True),
}
sys.exit(0 if found == wanted else f"this changed: {found}")
PY
