"""The HTTP of the loopback server: keys, paths, pages, and how an answer goes wrong on its way.

What is answered is decided by ``server.loopback``, the ``Loopback`` of ``loopback.py``.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.loopback = self.server.loopback
        with self.loopback.lock:
            self.loopback.connections.add(self.connection)

    def finish(self):
        with self.loopback.lock:
            self.loopback.connections.discard(self.connection)
        super().finish()

    def do_GET(self):
        self.serve(b"")

    def do_POST(self):
        self.serve(self.rfile.read(int(self.headers["Content-Length"])))

    def serve(self, content):
        here = self.loopback
        path = urlsplit(self.path).path.removeprefix("/v1")
        with here.lock:
            here.requests[path] += 1
            number = here.requests[path]
        if self.headers.get("Authorization") not in (f"Bearer {here.key}", here.basic):
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self.fail(401, f"Incorrect API key provided: {given}.", "invalid_api_key")
            return
        if here.before is not None and here.before(self, path, content):
            return
        if path == "/chat/completions":
            self.serve_chat(json.loads(content))
            return
        fault = here.draw(here.road_faults, path, number)
        if fault in ("busy", "error"):
            self.misbehave(fault, {})
            return
        found = self.serve_batches(path, content)
        if found is None:
            self.fail(404, f"no such thing as {path}", None)
        elif fault:
            self.misbehave(fault, found)
        else:
            self.reply(200, found)

    def serve_chat(self, body):
        here = self.loopback
        with here.lock:
            here.n_at_once += 1
            here.most_at_once = max(here.most_at_once, here.n_at_once)
        try:
            if complaint := here.complaint_about(body):
                self.fail(400, complaint, "unsupported_parameter")
                return
            fault, answer = here.serve_completion(body, here.faults)
            if here.latency_s:
                here.stopping.wait(here.latency_s)
        finally:
            with here.lock:
                here.n_at_once -= 1
        if fault is None or fault in ("refusal", "cut", "misfit"):
            self.reply(200, answer)
        else:
            self.misbehave(fault, answer)

    def serve_batches(self, path, content):
        here = self.loopback
        if path == "/files" and self.command == "POST":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts = email.message_from_bytes(head + content, policy=email.policy.HTTP).iter_parts()
            named = {part.get_param("name", header="content-disposition"): part for part in parts}
            assert named["purpose"].get_content().strip() == "batch"
            name = here.add_file(named["file"].get_payload(decode=True))
            size = len(here.files[name])
            return {
                "id": name,
                "object": "file",
                "bytes": size,
                "created_at": 1,
                "filename": "x",
                "purpose": "batch",
            }
        if path == "/batches" and self.command == "POST":
            return here.add_batch(json.loads(content))
        if path == "/batches":
            query = parse_qs(urlsplit(self.path).query)
            names = list(here.batches)[::-1]
            after = query.get("after", [None])[0]
            start = names.index(after) + 1 if after else 0
            limit = int(query.get("limit", ["20"])[0])
            page = [here.show_batch(name) for name in names[start : start + limit]]
            return {"object": "list", "data": page, "has_more": start + limit < len(names)}
        if found := re.fullmatch(r"/batches/(\w+)", path):
            return here.show_batch(found[1])
        if found := re.fullmatch(r"/files/([\w-]+)/content", path):
            return here.files[found[1]]
        return None

    def misbehave(self, fault, answer):
        here = self.loopback
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if fault == "busy":
            self.fail(429, "Rate limit reached.", "rate_limit_exceeded", {"Retry-After": here.retry_after})
        elif fault == "error":
            self.fail(500, f"The server had an error. Your key was {here.key}.", None)
        elif fault == "truncated":
            self.reply(200, content[: len(content) // 2])
        elif fault == "reset":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            time.sleep(0.01)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "silence":
            here.stopping.wait(here.silence_s)
            self.close_connection = True
        else:
            raise ValueError(fault)

    def fail(self, status, message, code, headers=None):
        error = {"message": message, "type": "error", "param": None, "code": code}
        self.reply(status, {"error": error}, headers)

    def reply(self, status, value, headers=None):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)
