#!/usr/bin/env bash
# anthropic 2.14.0: messages.create() and messages.stream() have no temperature, top_p and top_k.
#
# Every guide's call, client.messages.create(..., temperature=0), is a TypeError in this release, before anything is sent: the
# arguments are gone from the signature, while stop_sequences has stayed. The only way is extra_body={"temperature": 0}, which
# reaches the server as the field that it was before. A server of one's own that speaks this API has to go on reading the
# fields, and what it says of them in examples for this client has to use extra_body.
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check anthropic==2.14.0
"$folder/venv/bin/python" - <<'PYTHON'
import inspect
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic

seen = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        answer = json.dumps({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": "hi", "citations": None}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *about):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="x")
asked = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
names = set(inspect.signature(client.messages.create).parameters)
print("of the sampling arguments there are", sorted(names & {"temperature", "top_p", "top_k", "stop_sequences"}))
assert names & {"temperature", "top_p", "top_k", "stop_sequences"} == {"stop_sequences"}
for name, value in (("temperature", 0.0), ("top_p", 0.9), ("top_k", 5)):
    try:
        client.messages.create(**asked, **{name: value})
        raise SystemExit(f"{name} is taken")
    except TypeError as error:
        print(error)
assert not seen
client.messages.create(**asked, extra_body={"temperature": 0.0})
print("with extra_body the server sees", {k: v for k, v in seen[0].items() if k not in asked})
assert seen[0]["temperature"] == 0.0
PYTHON
