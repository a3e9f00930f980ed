#!/usr/bin/env bash
# Guess:   a client of HTTP/2 that opens one stream more than the server announced (SETTINGS_MAX_CONCURRENT_STREAMS) gets that
#          stream refused, and its others go on: RFC 9113 (5.1.2) has it as an error of the stream, which gRPC's clients ask again.
# Happens: h2 on the server's side ends the whole connection with GOAWAY (PROTOCOL_ERROR) and raises TooManyStreamsError; nothing more
#          can be sent, so every call that was under way is lost, too. The limit that is announced is the one that is enforced:
#          a server cannot announce a hundred and be patient with the hundred and first.
# Version: h2 4.4.1, hpack 4.2.0 (pure Python). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'h2==4.4.1' 'hpack==4.2.0' 'hyperframe==6.1.0'
cat >try.py <<'PY'
from importlib.metadata import version

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

MOST = 3
FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a"), ("te", "trailers")]


def frames(raw):
    while raw:
        frame, size = Frame.parse_frame_header(memoryview(raw[:9]))
        frame.parse_body(memoryview(raw[9 : 9 + size]))
        yield frame
        raw = raw[9 + size :]


server = H2Connection(H2Configuration(client_side=False))
server.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: MOST})
server.initiate_connection()
client = H2Connection(H2Configuration(client_side=True))
client.initiate_connection()
server.receive_data(client.data_to_send())
client.receive_data(server.data_to_send())
server.receive_data(client.data_to_send())
encoder, said = Encoder(), "no error"
for number in range(MOST + 1):  # by hand, since h2's own client keeps to the limit
    opened = HeadersFrame(2 * number + 1, encoder.encode(FIELDS), flags=["END_HEADERS"])
    try:
        server.receive_data(opened.serialize())
    except ProtocolError as error:
        said = type(error).__name__
answered = list(frames(server.data_to_send()))
ended = [each.error_code for each in answered if isinstance(each, GoAwayFrame)]
refused = [each.stream_id for each in answered if isinstance(each, RstStreamFrame)]
try:
    server.send_headers(1, [(":status", "200")])
    earlier = "can be answered"
except ProtocolError as error:
    earlier = f"cannot be answered: {type(error).__name__}"
print("h2", version("h2"), "announced", MOST, "streams, got", MOST + 1)
print(f"it raised {said}; GOAWAY with {ended}, streams refused: {refused}; the first stream {earlier}")
assert (said, ended, refused) == ("TooManyStreamsError", [1], []) and earlier.startswith("cannot")
PY
venv/bin/python try.py
