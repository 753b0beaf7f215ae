"""A stand-in for the Hugging Face Hub: it serves folders to the real clients, and plays faults.

It answers as the Hub does where huggingface_hub and `datasets` ask: what a repository holds at a
revision, with sizes and checksums; its folders; and its files, whole or from a byte on, large ones
after sending the client elsewhere. Below /raw it sends files as GitHub does. All is on the loopback
address; nothing of the real Hub is reached.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

KINDS = {"model": "models", "dataset": "datasets"}
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?")
RAW = re.compile(r"/raw/([^/]+/[^/]+)/([^/]+)/(.+)")
FILE = re.compile(r"(?:/(cdn))?/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
LARGE = {".safetensors", ".parquet", ".png", ".bin"}  # kept by Git LFS: checksums are SHA-256
CHUNK = 1 << 16


class Hub:
    """`with Hub() as hub: hub.add("model", "owner/name", folder)`, then use `hub.url`.

    asked: (method, path, first byte) of every request so far.
    status: {repository: (HTTP status, X-Error-Code)} to answer instead of anything.
    cut: {file name: byte at which every connection ends}.
    altered: file names whose first byte is not what it should be.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, dict[str, bytes]]] = {}
        self.references: dict[tuple[str, str], dict[str, str]] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.status: dict[str, tuple[int, str]] = {}
        self.cut: dict[str, int] = {}
        self.altered: set[str] = set()

    def __enter__(self) -> Hub:
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, kind: str, name: str, folder: Path, commit: str = "", ref: str = "main") -> str:
        """Serve the files of a folder as a commit of a repository, to which `ref` then points."""
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        commit = commit or digest
        self.repositories.setdefault((kind, name), {})[commit] = files
        self.references.setdefault((kind, name), {})[ref] = commit
        return commit

    def downloads(self) -> list[tuple[str, int]]:
        """(file, first byte) of every file that was asked for since the last call."""
        files = [(FILE.fullmatch(path), begin) for how, path, begin in self.asked if how == "GET"]
        found = [
            (file[5], begin)
            for file, begin in files
            if file and bool(file[1]) == (PurePosixPath(file[5]).suffix in LARGE)
        ]
        self.asked.clear()
        return found

    def at(self, kind: str, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """(commit, files); KeyError tells what there is not."""
        commits = self.repositories.get((kind, name))
        if commits is None:
            raise KeyError("RepoNotFound")
        commit = self.references[kind, name].get(revision, revision)
        if commit not in commits:
            raise KeyError("RevisionNotFound")
        return commit, commits[commit]


def facts(name: str, data: bytes) -> dict[str, Any]:
    """What the Hub tells about a file: size, git blob hash and, of a large file, SHA-256."""
    large = PurePosixPath(name).suffix in LARGE
    sha256 = hashlib.sha256(data).hexdigest()
    stored = f"oid sha256:{sha256}\nsize {len(data)}\n".encode() if large else data
    oid = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()
    return {
        "size": len(data),
        "oid": oid,
        "etag": sha256 if large else oid,
        "lfs": {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": len(stored)}
        if large
        else None,
    }


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.fail(404, "EntryNotFound")

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        begin = int((re.findall(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0])[0])
        self.hub.asked.append((self.command, path, begin))
        try:
            if call := API.fullmatch(path):
                self.tell(*call.groups())
            elif call := RAW.fullmatch(path):
                self.send_raw(*call.groups())
            elif call := FILE.fullmatch(path):
                self.send(*call.groups(), begin)
            else:
                self.fail(404, "EntryNotFound")
        except KeyError as error:
            self.fail(404, error.args[0])

    def refused(self, name: str) -> bool:
        if name in self.hub.status:
            self.fail(*self.hub.status[name])
        return name in self.hub.status

    def tell(self, kinds: str, name: str, what: str, revision: str, folder: str) -> None:
        # A gated repository tells what it holds, only its files are closed.
        if self.hub.status.get(name, (0, ""))[1] != "GatedRepo" and self.refused(name):
            return
        kind = next(k for k, v in KINDS.items() if v == kinds)
        commit, files = self.hub.at(kind, name, revision or "main")
        known = {path: facts(path, data) for path, data in files.items()}
        if what == "tree":
            self.reply(listing(known, folder or "", "recursive=" in self.path.lower()))
            return
        siblings = [
            {"rfilename": p, "size": f["size"], "blobId": f["oid"], "lfs": f["lfs"]}
            for p, f in known.items()
        ]
        self.reply({"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []})

    def send(
        self, elsewhere: str, kinds: str, name: str, revision: str, path: str, begin: int
    ) -> None:
        if self.refused(name):
            return
        commit, files = self.hub.at("dataset" if kinds else "model", name, revision)
        if path not in files:
            raise KeyError("EntryNotFound")
        data = files[path]
        if path in self.hub.altered:
            data = bytes([data[0] ^ 1]) + data[1:]
        told = facts(path, files[path])
        if told["lfs"] and not elsewhere:
            self.send_response(302)
            self.send_header("Location", f"{self.hub.url}/cdn{self.path}")
            self.send_header("X-Linked-Etag", f'"{told["etag"]}"')
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        end = min(self.hub.cut.get(path, len(data)), len(data))
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{told["etag"]}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if self.command == "GET":
            for start in range(begin, end, CHUNK):
                self.wfile.write(data[start : min(start + CHUNK, end)])
            if end < len(data):
                self.close_connection = True

    def send_raw(self, name: str, revision: str, path: str) -> None:
        """As GitHub sends a file of a repository that was added as one of kind `github`."""
        assert "Authorization" not in self.headers, "a credential of the Hub went elsewhere"
        _, files = self.hub.at("github", name, revision)
        if path not in files:
            raise KeyError("EntryNotFound")
        data = files[path]
        if path in self.hub.altered:
            data = bytes([data[0] ^ 1]) + data[1:]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def reply(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def listing(known: dict[str, dict[str, Any]], folder: str, deep: bool) -> list[dict[str, Any]]:
    """The entries of a folder: files and, one level down or all the way, folders."""
    entries: dict[str, dict[str, Any]] = {}
    start = f"{folder}/" if folder else ""
    for path, told in known.items():
        if not path.startswith(start):
            continue
        parts = path.removeprefix(start).split("/")
        for n in range(1, len(parts) if deep else min(len(parts), 2)):
            inner = start + "/".join(parts[:n])
            oid = hashlib.sha1(inner.encode()).hexdigest()
            entries[inner] = {"type": "directory", "path": inner, "size": 0, "oid": oid}
        if deep or len(parts) == 1:
            lfs = {"lfs": told["lfs"]} if told["lfs"] else {}
            size, oid = told["size"], told["oid"]
            entries[path] = {"type": "file", "path": path, "size": size, "oid": oid, **lfs}
    return list(entries.values())
