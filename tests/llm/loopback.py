"""A server on loopback that answers like OpenAI's and misbehaves as it is told; it knows what it would charge.

Faults are drawn from (seed, prompt, how often it was asked), so that they do not depend on the order of calls.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path

from loopback_http import Handler, Server

PAID_FAULTS = {"reset", "truncated", "silence", "refusal", "cut", "misfit"}


def prompt_of(messages):
    """Name of a prompt: a hash over what the user asks (a schema in the system message is the client's)."""
    text = json.dumps([m["content"] for m in messages if m["role"] == "user"])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fill(schema, definitions, name="answer"):
    """A value that fits a schema."""
    if "$ref" in schema:
        return fill(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions, name)
    if "anyOf" in schema:
        return fill(schema["anyOf"][0], definitions, name)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object":
        return {field: fill(part, definitions, field) for field, part in schema["properties"].items()}
    if kind == "array":
        n_items = max(2, schema.get("minItems", 0))
        return [fill(schema["items"], definitions, f"{name} {i}") for i in range(n_items)]
    values = {"string": f"a small {name}", "integer": 5, "number": 5.0, "boolean": True, "null": None}
    return values[kind]


class Loopback:
    """The server. ``faults``: share of each kind of misbehaviour; ``item_faults``: of items in batches.

    ``rows``: one dictionary for each completion that was asked for: seq, prompt, fault, usd, batch. ``asked``,
    ``paid``: how often, by prompt.
    """

    def __init__(
        self,
        *,
        key="sk-loopback-0123456789",
        faults=None,
        item_faults=None,
        road_faults=None,
        seed=0,
        price=(1.0, 2.0),
        silence_s=30.0,
        retry_after="0.05",
        latency_s=0.0,
        batch_s=0.0,
        knows=("json_schema", "json_object", "max_tokens", "max_completion_tokens"),
        log=None,
        answer=None,
        before=None,
    ):
        self.key = key
        self.basic = ""  # what lets in beside the key: a header with user and password
        self.faults = faults or {}
        self.item_faults = item_faults or {}
        self.road_faults = road_faults or {}
        self.seed = seed
        self.price = price
        self.silence_s = silence_s
        self.retry_after = retry_after
        self.latency_s = latency_s
        self.batch_s = batch_s
        self.knows = knows
        self.answer = answer
        self.before = (
            before  # called with (handler, path, body) before a request is served; True: it was answered
        )
        self.rows = []
        self.asked = Counter()
        self.paid = Counter()
        self.requests = Counter()  # by path
        self.bodies = []
        self.n_at_once = self.most_at_once = 0
        self.files = {}
        self.batches = {}
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.connections = set()
        self._log = Path(log).open("a", encoding="utf-8") if log else None  # noqa: SIM115
        self._http = Server(("127.0.0.1", 0), Handler)
        self._http.loopback = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()
        if self._log:
            self._log.close()

    @property
    def usd(self):
        """What has been charged in all."""
        return sum(row["usd"] for row in self.rows)

    def draw(self, faults, *what):
        """One kind of fault, or None."""
        point = random.Random(f"{self.seed}/{'/'.join(map(str, what))}").random()
        for kind, share in faults.items():
            point -= share
            if point < 0:
                return kind
        return None

    def serve_completion(self, body, faults, *, batch=None):
        """Fault, and the body of a completion; charges for it."""
        prompt = prompt_of(body["messages"])
        with self.lock:
            self.asked[prompt] += 1
            self.bodies.append(body)
            fault = self.draw(faults, prompt, self.asked[prompt])
            is_paid = fault is None or fault in PAID_FAULTS
            text, finish_reason = self.text_for(body), "stop"
            if fault == "misfit":
                text = json.dumps({"nonsense": text[:20]})
            if fault == "cut":
                text, finish_reason = text[: len(text) // 2], "length"
            n_in = sum(len(m["content"].encode()) for m in body["messages"]) // 4 + 8
            n_in += len(json.dumps(body.get("response_format", ""))) // 5
            limit = body.get("max_tokens") or body.get("max_completion_tokens")
            n_out = min(limit, max(1, len(text) // 4))
            usd = (n_in * self.price[0] + n_out * self.price[1]) / 1e6 * (0.5 if batch else 1.0)
            row = {"seq": len(self.rows), "prompt": prompt, "fault": fault, "batch": batch}
            row["usd"] = usd if is_paid else 0.0
            self.paid[prompt] += is_paid
            self.rows.append(row)
            if self._log:
                self._log.write(json.dumps(row) + "\n")
                self._log.flush()
        message = {"role": "assistant", "content": text, "refusal": None}
        if fault == "refusal":
            message |= {"content": None, "refusal": "I'm sorry, I can't help with that."}
        usage = {"prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
        return fault, {
            "id": f"chatcmpl-{row['seq']}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": body["model"] + "-2026-01-01",
            "choices": [choice],
            "usage": usage,
            "system_fingerprint": "fp_loopback",
        }

    def text_for(self, body):
        """The text of the answer: what ``answer`` says, else what fits the schema that was sent."""
        if self.answer is not None:
            return self.answer(body)
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema is None and "JSON schema:\n" in body["messages"][0]["content"]:
            schema = json.loads(body["messages"][0]["content"].split("JSON schema:\n")[1])
        if schema is None:
            return "Once upon a time, there was a plain answer."
        return json.dumps(fill(schema, schema.get("$defs", {})))

    def complaint_about(self, body):
        """What a request says that this server does not know."""
        form = body.get("response_format", {}).get("type")
        if form and form not in self.knows:
            return f"Invalid parameter: 'response_format' of type '{form}' is not supported with this model."
        for name, other in (
            ("max_tokens", "max_completion_tokens"),
            ("max_completion_tokens", "max_tokens"),
        ):
            if name in body and name not in self.knows:
                return f"Unsupported parameter: '{name}' is not supported with this model. Use '{other}' instead."
        return None

    def add_file(self, content):
        with self.lock:
            name = f"file-{len(self.files)}"
            self.files[name] = content
        return name

    def add_batch(self, body):
        with self.lock:
            name = f"batch_{len(self.batches)}"
            self.batches[name] = {
                "id": name,
                "object": "batch",
                "endpoint": body["endpoint"],
                "input_file_id": body["input_file_id"],
                "completion_window": body["completion_window"],
                "status": "in_progress",
                "created_at": int(time.time()),
                "metadata": body.get("metadata"),
                "output_file_id": None,
                "error_file_id": None,
                "errors": None,
                "due": time.monotonic() + self.batch_s,
            }
        return self.show_batch(name)

    def show_batch(self, name):
        with self.lock:
            batch = self.batches[name]
            if batch["status"] == "in_progress" and time.monotonic() >= batch["due"]:
                self.finish_batch(batch)
            return {key: value for key, value in batch.items() if key != "due"}

    def finish_batch(self, batch):
        """Answer the items: some are answered, some fail, some expire, some are lost."""
        good, bad = [], []
        lines = self.files[batch["input_file_id"]].decode().splitlines()
        if any(json.loads(line)["url"] != "/v1/chat/completions" for line in lines):
            batch |= {
                "status": "failed",
                "errors": {"data": [{"code": "invalid_url", "message": "wrong url"}]},
            }
            return
        for number, line in enumerate(lines):
            item = json.loads(line)
            head = {"id": f"batch_req_{batch['id']}_{number}", "custom_id": item["custom_id"]}
            if complaint := self.complaint_about(item["body"]):
                response = {"status_code": 400, "body": {"error": {"message": complaint, "code": None}}}
                bad.append({**head, "response": response, "error": None})
                continue
            fault, body = self.serve_completion(item["body"], self.item_faults, batch=batch["id"])
            if fault == "expired":
                error = {"code": "batch_expired", "message": "This request could not be executed in time."}
                bad.append({**head, "response": None, "error": error})
            elif fault == "failed":
                response = {"status_code": 500, "body": {"error": {"message": "The server had an error."}}}
                bad.append({**head, "response": response, "error": None})
            elif fault == "denied":
                response = {
                    "status_code": 401,
                    "body": {"error": {"message": "This key may not.", "code": "x"}},
                }
                bad.append({**head, "response": response, "error": None})
            elif fault != "lost":
                good.append({**head, "response": {"status_code": 200, "body": body}, "error": None})
        random.Random(self.seed).shuffle(good)
        has_expired = any(row["error"] for row in bad)
        batch["status"] = "expired" if has_expired else "completed"
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[name] = self.add_file("".join(json.dumps(row) + "\n" for row in rows).encode())
