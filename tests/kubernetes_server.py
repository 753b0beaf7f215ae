"""A stand-in for a Kubernetes cluster: its API on the loopback, for the real client.

Keeps the manifests of jobs, and runs each job's command in an empty folder, which is its node.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIG = """\
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "{url}"}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
users: [{{name: me, user: {{token: none}}}}]
"""
# What jobs would install first is here already.
PIP = "#!/bin/sh\n# Stands in for pip.\n"


class Cluster:
    """manifests: those of the jobs, in their order. logs: what each job said."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.manifests: list[dict[str, Any]] = []
        self.secrets: dict[str, dict[str, str]] = {}
        self.jobs: dict[str, subprocess.Popen] = {}
        self.environment = {"KUBECONFIG": str(folder / "config")}
        folder.mkdir(parents=True)
        (folder / "config").write_text(CONFIG.format(url=url))
        pip = folder / "bin/pip"
        pip.parent.mkdir()
        pip.write_text(PIP)
        pip.chmod(0o755)

    def start(self, manifest: dict[str, Any]) -> None:
        """Take a job and start its command, with its secrets as it asks for them."""
        name = manifest["metadata"]["name"]
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        given = {}
        for each in container.get("env") or []:
            key = each["valueFrom"]["secretKeyRef"]
            secret = self.secrets[key["name"]][key["key"]]
            given[each["name"]] = base64.b64decode(secret).decode()
        node = self.folder / name
        node.mkdir()
        path = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        with open(self.folder / f"{name}.log", "w") as said:
            self.jobs[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=node,
                env={"HOME": str(node), "PATH": os.pathsep.join(path), **given},
                stdout=said,
                stderr=said,
            )
        self.manifests.append(manifest)

    def status(self, name: str) -> dict[str, Any]:
        code = self.jobs[name].poll()
        status = {} if code is None else {"failed": 1} if code else {"succeeded": 1}
        return {"metadata": {"name": name}, "status": status}

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Serve until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.cluster = Cluster(folder, f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.cluster
    finally:
        server.shutdown()
        server.server_close()
        for job in server.cluster.jobs.values():
            job.kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, value: Any, code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _given(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")

    def do_POST(self) -> None:
        given = self._given()
        if self.path.endswith("/secrets"):
            self.server.cluster.secrets[given["metadata"]["name"]] = given.get("data") or {}
        elif self.path.endswith("/jobs"):
            self.server.cluster.start(given)
        self._answer(given, 201)

    def do_GET(self) -> None:
        if job := re.search(r"/jobs/([^/?]+)/status", self.path):
            self._answer(self.server.cluster.status(job[1]))
        else:  # pods: a job's status says all
            self._answer({"items": []})

    def do_DELETE(self) -> None:
        self._given()
        self._answer({"status": "Success"})

    def log_message(self, *words: Any) -> None:
        """Nothing."""
