"""A hub on loopback: the part of the Hugging Face protocol that fetching one commit needs."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves repositories, each a folder, at one commit; counts its answers."""

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Path], truncated: str | None, stalled: str | None, broken: bool):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = repositories
        self.truncated, self.stalled, self.broken = truncated, stalled, broken
        self.over = threading.Event()
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers for repositories named `datasets/ORG/NAME` and `models/ORG/NAME`."""

    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if self.server.broken:
            return self.refuse(500, "InternalServerError")
        if match := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self.describe(match[1], match[2] or COMMIT)
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.send(f"{'datasets' if match[1] else 'models'}/{match[2]}", match[3], match[4], body)
        else:
            self.refuse(404, "EntryNotFound")

    def describe(self, repository: str, revision: str) -> None:
        folder = self.server.repositories.get(repository)
        if folder is None:
            return self.refuse(404, "RepoNotFound")
        if revision != COMMIT:
            return self.refuse(404, "RevisionNotFound")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        siblings = [{"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size} for path in files]
        name = repository.partition("/")[2]
        text = json.dumps({"id": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}).encode()
        self.headers_for(200, {"Content-Type": "application/json", "Content-Length": str(len(text))})
        self.wfile.write(text)

    def send(self, repository: str, revision: str, name: str, body: bool) -> None:
        folder = self.server.repositories.get(repository)
        if folder is None:
            return self.refuse(404, "RepoNotFound")
        if revision != COMMIT:
            return self.refuse(404, "RevisionNotFound")
        if not (folder / name).is_file():
            return self.refuse(404, "EntryNotFound")
        content = (folder / name).read_bytes()
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0").partition("-")[0]) or 0)
        length = len(content) - start
        tag = hashlib.sha1(content).hexdigest()
        self.headers_for(
            206 if start else 200,
            {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(length), "Accept-Ranges": "bytes",
             "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"},
        )  # fmt: skip
        if body:
            cut = name == self.server.truncated
            stalls = name == self.server.stalled
            self.wfile.write(content[start : start + (length // 2 if cut or stalls else length)])
            if stalls:
                self.server.over.wait()
            self.close_connection = cut or stalls

    def refuse(self, status: int, code: str) -> None:
        self.headers_for(status, {"X-Error-Code": code, "X-Error-Message": code, "Content-Length": "0"})

    def headers_for(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(
    repositories: Mapping[str, Path], truncated: str | None = None, stalled: str | None = None, broken: bool = False
) -> Iterator[Hub]:
    """Serve folders until the block ends.

    truncated: a file of which only half is sent. stalled: one of which half is sent and no end comes.
    broken: whether every answer is that something is wrong with the server (500).
    """
    hub = Hub(repositories, truncated, stalled, broken)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        hub.shutdown()
        hub.server_close()
        thread.join()
