"""A headless Chromium, for tests and for pictures of pages."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

# Without these Chromium looks up hosts of its own at every start.
QUIET = ("no-first-run", "disable-background-networking", "disable-component-update")
QUIET += ("disable-sync", "disable-quic")


def programs():
    """The paths of Chromium and its driver; None for one that is not there."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    return chromium, shutil.which("chromedriver")


class Browser:
    """A headless Chromium, spoken to as W3C WebDriver says, through Debian's chromedriver."""

    def __init__(self, folder):
        chromium, driver = programs()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([driver, f"--port={port}"], **quiet)
        self.session = ""
        options = {"binary": chromium, "args": ["--headless=new", "--no-sandbox", "--disable-gpu"]}
        options["args"] += ["--disable-dev-shm-usage", f"--user-data-dir={folder}"]
        options["args"] += [f"--{word}" for word in QUIET]
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.address}/status", timeout=10)
                break
            time.sleep(0.2)
        found = self.post("/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{found['sessionId']}"

    def post(self, path, body):
        """Send a command and return its answer."""
        request = urllib.request.Request(
            self.address + self.session + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)["value"]

    def open(self, path):
        """Open a file, or an address, in a fresh page."""
        self.post("/url", {"url": "about:blank"})
        self.post("/url", {"url": path if "://" in str(path) else Path(path).as_uri()})

    def until(self, program, seconds=60):
        """What a function's body returns, as soon as that is true; else TimeoutError."""
        end = time.monotonic() + seconds
        while not (found := self.run(program)):
            if time.monotonic() > end:
                raise TimeoutError(f"{program}: {found!r} after {seconds} s")
            time.sleep(0.05)
        return found

    def colours(self, scheme):
        """Have pages think that their visitor prefers `dark` or `light` ones."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        command = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self.post("/goog/cdp/execute", command)

    def frame(self, selector=None):
        """Go into the frame that a CSS selector names; out to the page without one."""
        found = None
        if selector:
            found = self.post("/element", {"using": "css selector", "value": selector})
        self.post("/frame", {"id": found})

    def messages(self):
        """What the console was told since the last time."""
        return self.post("/se/log", {"type": "browser"})

    def run(self, program):
        """Run the body of a JavaScript function in the page and return what it returns."""
        return self.post("/execute/sync", {"script": program, "args": []})

    def keys(self, *keys):
        """Press keys, one after the other."""
        strokes = [{"type": kind, "value": k} for k in keys for kind in ("keyDown", "keyUp")]
        self.post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def picture(self, path):
        """Write a PNG of what is in view."""
        with urllib.request.urlopen(f"{self.address}{self.session}/screenshot", timeout=300) as got:
            Path(path).write_bytes(base64.b64decode(json.load(got)["value"]))

    def width(self, pixels, height=800):
        """Look through a window of so many pixels; of a phone when it is narrow."""
        size = {"width": pixels, "height": height, "deviceScaleFactor": 1, "mobile": pixels < 700}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self.post("/goog/cdp/execute", command)

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError):
            stop = urllib.request.Request(self.address + self.session, method="DELETE")
            urllib.request.urlopen(stop, timeout=30)
        self.process.terminate()
        self.process.wait()
