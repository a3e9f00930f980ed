#!/usr/bin/env bash
# Guess:   a client of Google's raises AlreadyExists where a thing exists, InvalidArgument where a request is wrong and PermissionDenied
#          where a right is missing, whichever transport it was made with; the answer says so by name (`"status": "ALREADY_EXISTS"`).
# Happens: only by gRPC. By REST the class is chosen by the HTTP status alone: Conflict, BadRequest, Forbidden, which are *above* those.
#          `except AlreadyExists` lets the same refusal pass as soon as somebody writes transport="rest"; `grpc_status_code` is None there, and
#          FAILED_PRECONDITION and INVALID_ARGUMENT, both 400, cannot be told apart but in the raw answer.
# Version: google-api-core 2.44.0, google-cloud-artifact-registry 1.23.0. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'google-api-core==2.44.0' 'google-cloud-artifact-registry==1.23.0' 'grpcio==1.85.1'
"$folder/venv/bin/python" -W ignore - <<'PY'
import json
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.artifactregistry_v1 import ArtifactRegistryClient, GetRepositoryRequest, Repository

CASES = {"ALREADY_EXISTS": (409, "AlreadyExists", "Conflict"), "INVALID_ARGUMENT": (400, "InvalidArgument", "BadRequest"),
         "FAILED_PRECONDITION": (400, "FailedPrecondition", "BadRequest"), "PERMISSION_DENIED": (403, "PermissionDenied", "Forbidden")}
NAME = "projects/p/locations/us/repositories/r"
wanted = ""


class Rest(BaseHTTPRequestHandler):
    def do_GET(self):
        status = CASES[wanted][0]
        body = json.dumps({"error": {"code": status, "message": "no", "status": wanted}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def refuse(request, context):
    context.abort(grpc.StatusCode[wanted], "no")


web = HTTPServer(("127.0.0.1", 0), Rest)
threading.Thread(target=web.serve_forever, daemon=True).start()
server = grpc.server(futures.ThreadPoolExecutor(1))
method = grpc.unary_unary_rpc_method_handler(refuse, GetRepositoryRequest.deserialize, Repository.serialize)
service = "google.devtools.artifactregistry.v1.ArtifactRegistry"
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"GetRepository": method}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
kind = ArtifactRegistryClient.get_transport_class
doors = {
    "gRPC": ArtifactRegistryClient(transport=kind("grpc")(channel=grpc.insecure_channel(f"127.0.0.1:{port}"))),
    "REST": ArtifactRegistryClient(transport=kind("rest")(
        host=f"127.0.0.1:{web.server_port}", credentials=AnonymousCredentials(), url_scheme="http")),
}
for wanted, (_, narrow, wide) in CASES.items():
    seen = {}
    for door, client in doors.items():
        try:
            client.get_repository(name=NAME, retry=None)
        except exceptions.GoogleAPICallError as error:
            seen[door] = (type(error).__name__, error.grpc_status_code)
    print(wanted, "by gRPC", seen["gRPC"][0], "by REST", seen["REST"][0])
    assert seen["gRPC"][0] == narrow and seen["REST"] == (wide, None), seen
    assert issubclass(getattr(exceptions, narrow), getattr(exceptions, wide))
server.stop(None)
PY
