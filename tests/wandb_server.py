"""A server that stands in for W&B on 127.0.0.1: what a run, a sync and a saved view need of it, and no more.

What it is sent it keeps as the real one would: a run's history by line, its summary, its config.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tests.wandb_files import WandbRun, ours

PROJECT = {"id": "UHJvamVjdA==", "name": "snn_exp", "entity": {"id": "RW50aXR5", "name": "somebody"}}
VIEWER = {"id": "VXNlcg==", "entity": "somebody", "username": "somebody", "flags": "{}", "teams": {"edges": []}}


class Server:
    """The server, inside a with block; it can be stopped and started again.

    It keeps runs by their id, and saved views by their name.
    """

    def __init__(self) -> None:
        self.runs: dict[str, WandbRun] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self._port = 0

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """At the same address as before."""
        self._open: set[socket.socket] = set()
        self._http: ThreadingHTTPServer | None = ThreadingHTTPServer(("127.0.0.1", self._port), _handler_of(self))
        self._http.daemon_threads = True
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Ends all connections and takes no more."""
        if self._http is None:
            return
        self._http.shutdown()
        self._http.server_close()
        self._http = None
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def wait_for_history(self, run_id: str) -> None:
        """Until an epoch of the run has come."""
        deadline = time.monotonic() + 60
        while not (run_id in self.runs and self.runs[run_id].history):
            assert time.monotonic() < deadline, "nothing came"
            time.sleep(0.1)

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """To a question in GraphQL."""
        name = (re.search(r"\b(?:query|mutation)\s+(\w+)", query) or ["", ""])[1]
        if name == "UpsertBucket":
            return self._upsert(given)
        if name == "UpsertView2":
            self.views[given["name"]] = given
            return {"upsertView": {"view": {"id": "Vmlldw==", "name": given["name"]}, "inserted": True}}
        if name == "View":
            found = [self.views[given["viewName"]]] if given["viewName"] in self.views else []
            return {"project": {"allViews": {"edges": [{"node": {"id": "Vmlldw==", **view}} for view in found]}}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.address}/upload/{file}"} for file in given["files"]]
            return {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": files}}
        return {"viewer": VIEWER, "model": {**PROJECT, "bucket": None}, "serverInfo": None}

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], WandbRun(given["name"]))
        run.name, run.group = given["displayName"] or run.name, given["groupName"] or run.group
        run.tags = given["tags"] or run.tags
        run.config = ours({key: of["value"] for key, of in json.loads(given["config"] or "{}").items()}) or run.config
        bucket = {"id": "UnVu", "name": run.run_id, "displayName": run.name, "description": "", "config": "{}",
                  "sweepName": None, "project": PROJECT, "historyLineCount": 0}  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def stream(self, run_id: str, sent: dict[str, Any]) -> None:
        """Takes a part of a run's history, by its place, and its summary, whole."""
        run = self.runs[run_id]
        for name, chunk in sent.get("files", {}).items():
            rows = [ours(json.loads(line)) for line in chunk["content"]]
            if name == "wandb-history.jsonl":
                run.history[chunk["offset"] :] = rows
            elif name == "wandb-summary.json":
                run.summary = rows[-1]
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]


def _handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server._open.add(self.connection)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client may go without a word
                super().handle()

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            if self.path == "/graphql":
                asked = json.loads(content)
                self._say({"data": server.answer(asked["query"], asked.get("variables") or {})})
                return
            if self.path.endswith("/file_stream"):
                server.stream(self.path.split("/")[-2], json.loads(content))
            self._say({"exitcode": None, "limits": {}})

        do_PUT = do_GET = do_POST  # noqa: N815  the names that http.server calls

        def _say(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
