#!/usr/bin/env python3
"""A host of WebAssembly instances that Ebb's evaluator can restart, written from docs/host-protocol.md alone.

    pip install wasmtime
    python host.py --listen 127.0.0.1:9742 --module leaky=leaky.wat --replicas 4

Each replica is an instance of a core module that exports its memory, and `leak`, called twice a second.
"""

import argparse
import contextlib
import hashlib
import hmac
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import wasmtime

IF_MATCH = re.compile(r'"([0-9]{1,20})"')
ENGINE = wasmtime.Engine()
FAILURES = (wasmtime.WasmtimeError, wasmtime.Trap)
Fields = dict[str, Any]


class Refused(Exception):
    """An order that is not carried out: its status, and why."""


class Instance:
    """One lifetime. A store is for one thread at a time, hence the lock."""

    def __init__(self, module: wasmtime.Module, last: int) -> None:
        # Should the clock be set back between two runs of this program, only a file would help.
        self.generation = max(time.time_ns() // 1_000_000, last + 1)
        self._lock = threading.Lock()
        self._store = wasmtime.Store(ENGINE)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._memories = [item for item in exports.values() if isinstance(item, wasmtime.Memory)]
        self._leak: Any = exports["leak"]

    def leak(self) -> None:
        with self._lock:
            self._leak(self._store)

    def memory_bytes(self) -> int:
        with self._lock:
            return sum(memory.data_len(self._store) for memory in self._memories)


class Slot:
    """Where instances live one after another."""

    def __init__(self, module: wasmtime.Module, names: Fields) -> None:
        self.module, self.names = module, names
        self.live = Instance(module, last=0)
        self._restarting = threading.Lock()

    def work(self) -> None:
        live = self.live
        try:
            live.leak()
        except FAILURES:
            with contextlib.suppress(Refused):
                self.restart(live.generation)

    def restart(self, generation: int) -> Fields:
        """Replaces the live instance if it is of this generation."""
        begin = time.monotonic()
        if not self._restarting.acquire(blocking=False):
            raise Refused(409, "a restart of this instance is under way")
        try:
            old = self.live
            if generation != old.generation:
                raise Refused(412, f"generation {generation} is not live: {old.generation} is")
            self.live = new = Instance(self.module, old.generation)
        except FAILURES as error:
            raise Refused(503, f"could not start, the old instance stays: {error}") from error
        finally:
            self._restarting.release()
        return self.names | {
            "old_generation": old.generation,
            "new_generation": new.generation,
            "reclaimed_bytes": max(old.memory_bytes() - new.memory_bytes(), 0),
            "duration_seconds": time.monotonic() - begin,
        }

    def reading(self) -> Fields:
        live = self.live  # One lifetime's generation and memory, whatever is restarted meanwhile.
        return self.names | {"generation": live.generation, "memory_bytes": live.memory_bytes()}


def exposition(slots: list[Slot]) -> str:
    """Both gauges, from one reading of each slot. They are the same in both formats."""
    memory = ["# TYPE wasm_linear_memory_bytes gauge"]
    start = ["# TYPE wasm_instance_start_time_seconds gauge"]
    for told in [slot.reading() for slot in slots]:
        labels = 'module="{module}",digest="{digest}",replica="{replica}"'.format(**told)
        memory.append(f"wasm_linear_memory_bytes{{{labels}}} {told['memory_bytes']}")
        start.append(f"wasm_instance_start_time_seconds{{{labels}}} {told['generation'] / 1000:.3f}")
    return "\n".join([*memory, *start, ""])


class Handler(BaseHTTPRequestHandler):
    """Metrics, the list of instances, orders. Each server has a subclass with its slots and token."""

    protocol_version = "HTTP/1.1"
    slots: list[Slot]
    token: str | None

    def do_GET(self) -> None:
        if self.path == "/metrics" and "application/openmetrics-text" in self.headers.get("Accept", ""):
            text = exposition(self.slots) + "# EOF\n"
            self.answer(200, text, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        elif self.path == "/metrics":
            self.answer(200, exposition(self.slots), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/api/v1/instances":
            self.answer(200, json.dumps([slot.reading() for slot in self.slots]))
        else:
            self.answer(404, json.dumps({"error": f"no such path: {self.path}"}))

    def do_POST(self) -> None:
        try:
            self.answer(200, json.dumps(self.order()))
        except Refused as refused:
            self.answer(refused.args[0], json.dumps({"error": refused.args[1]}))

    def order(self) -> Fields:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not re.fullmatch("[0-9]{1,3}", length):
            self.close_connection = True
            raise Refused(413, "expected a Content-Length of at most 999 bytes")
        body = self.rfile.read(int(length))
        self.authorize()
        try:
            reason = json.loads(body)["reason"] if body else "operator"
        except (ValueError, TypeError, KeyError):
            reason = None
        if reason not in ("threshold", "pressure", "operator"):
            raise Refused(400, 'body: expected {"reason": "threshold"}, "pressure" or "operator"')
        if not (generation := IF_MATCH.fullmatch(self.headers.get("If-Match", ""))):
            raise Refused(400, 'If-Match: expected a generation in quotes, as in "1763848000123"')
        for slot in self.slots:
            if self.path == "/api/v1/instances/{module}/{replica}/restart".format(**slot.names):
                return slot.restart(int(generation[1]))
        raise Refused(404, f"no such instance: {self.path}")

    def authorize(self) -> None:
        if "Origin" in self.headers:
            raise Refused(403, "orders of web pages are refused")
        if self.token is None:
            return
        if "Authorization" not in self.headers:
            raise Refused(401, "expected Authorization: Bearer TOKEN")
        scheme, _, given = self.headers["Authorization"].partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise Refused(403, "wrong token")

    def answer(self, status: int, text: str, content_type: str = "application/json") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a scrape every few seconds is no news."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="127.0.0.1:9742", metavar="HOST:PORT")
    parser.add_argument("--module", required=True, metavar="NAME=FILE", help=".wat or .wasm, a core module")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--token-file", type=Path, help="orders must carry the token in this file")
    args = parser.parse_args()
    (address, _, port), (name, _, path) = args.listen.rpartition(":"), args.module.partition("=")
    binary = wasmtime.wat2wasm(Path(path).read_text()) if path.endswith(".wat") else Path(path).read_bytes()
    digest, module = hashlib.sha256(binary).hexdigest()[:12], wasmtime.Module(ENGINE, bytes(binary))
    slots = [Slot(module, {"module": name, "digest": digest, "replica": n}) for n in range(args.replicas)]
    if (token := args.token_file and args.token_file.read_text().strip()) == "":
        parser.error(f"{args.token_file} is empty")
    bound = type("Bound", (Handler,), {"slots": slots, "token": token})
    server = ThreadingHTTPServer((address, int(port)), bound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening on {args.listen}", flush=True)
    while True:
        time.sleep(0.5)
        for slot in slots:
            slot.work()


if __name__ == "__main__":
    main()
