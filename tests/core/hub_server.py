"""A small hub on this machine: the pages and files that a download asks for, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it serves: repository -> file name -> content; and what it was asked for."""

    repositories: dict[str, dict[str, bytes]]
    licence: str = "apache-2.0"
    # file name -> bytes after which every connection for it is cut
    cut_after: dict[str, int] = field(default_factory=dict)
    # (file name, Range header) of every download
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    # stated in the listing in place of the true hash
    wrong_hash: str = ""
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self)

            def do_HEAD(self):
                hub.answer(self)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        listing = re.fullmatch(r"/api/models/([^/?]+/[^/?]+)(?:/revision/(?:main|v1))?(?:\?.*)?", request.path)
        tree = re.fullmatch(rf"/api/models/([^/?]+/[^/?]+)/tree/{REVISION}(?:\?.*)?", request.path)
        download = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", request.path)
        if listing and listing[1] in self.repositories:
            body = json.dumps(self._listing(listing[1])).encode()
            return _send(request, 200, body, {"Content-Type": "application/json"})
        if tree and tree[1] in self.repositories:
            body = json.dumps(self._tree(tree[1])).encode()
            return _send(request, 200, body, {"Content-Type": "application/json"})
        if download and download[3] in self.repositories.get(download[1], {}) and download[2] in (REVISION, "main"):
            return self._send_file(request, download[3], self.repositories[download[1]][download[3]])
        return _send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _listing(self, repository: str) -> dict:
        files = self.repositories[repository]
        return {
            "id": repository,
            "sha": REVISION,
            "cardData": {"license": self.licence} if self.licence else None,
            "siblings": [self._sibling(name, content) for name, content in files.items()],
        }

    def _sibling(self, name: str, content: bytes) -> dict:
        """Large files carry their hash, small ones do not, as on the real hub."""
        facts = {"rfilename": name, "size": len(content), "blobId": "0"}
        if name.endswith((".safetensors", ".bin")):
            digest = self.wrong_hash or hashlib.sha256(content).hexdigest()
            facts["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 1}
        return facts

    def _tree(self, repository: str) -> list[dict]:
        entries = []
        for name, content in self.repositories[repository].items():
            entry = {"type": "file", "path": name, "size": len(content), "oid": _git_hash(content)}
            if lfs := self._sibling(name, content).get("lfs"):
                entry["lfs"] = {"size": lfs["size"], "oid": lfs["sha256"], "pointerSize": 1}
            entries.append(entry)
        return entries

    def _send_file(self, request: BaseHTTPRequestHandler, name: str, content: bytes) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((name, wanted))
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if wanted else {}
        headers |= {"X-Repo-Commit": REVISION, "ETag": f'"{_git_hash(content)}"'}
        body = content[start:]
        cut = self.cut_after.get(name)
        _send(request, 206 if wanted else 200, body, headers, cut=None if cut is None else max(0, cut - start))


def _git_hash(content: bytes) -> str:
    """What the hub calls a small file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _send(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command == "HEAD":
        return
    request.wfile.write(body[:cut])
    if cut is not None:
        request.wfile.flush()
        request.close_connection = True
