"""What stands between the network and the page: who may ask, for what, how much, and what for.

Names of hosts are checked, so that no page of elsewhere reaches the demo by a name that leads here
(DNS rebinding); origins, so that none asks in its visitor's name; and a browser is told to load
nothing from outside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LARGEST = 8 * 2**20  # bytes of a request
# Of Gradio's: files come neither in nor out.
CLOSED = ("upload", "upload_progress", "file", "file=", "stream", "proxy=", "deep_link", "dev")
CLOSED_PAGES = (
    "/openapi.json",
    "/monitoring",
    "/login",
    "/logout",
    "/pwa_icon",
    "/gradio_api/monitoring",
)
POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "style-src 'self' 'unsafe-inline'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's own
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
LOCAL = ("localhost", "127.0.0.1", "::1")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def host_of(name: str) -> str:
    """The host of a `Host` header, or of an origin, without its port."""
    try:
        return (urlsplit(name if "//" in name else f"//{name}").hostname or "").lower()
    except ValueError:
        return ""


def place_of(name: str) -> str:
    """The host and port of the same."""
    return (name.partition("//")[2] or name).lower()


class Guard:
    """An ASGI application before another one; hosts: names by which it may be asked for."""

    def __init__(self, app: Any, hosts: Iterable[str] = LOCAL) -> None:
        self.app, self.hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status = self.refusal(scope) if scope["type"] == "http" else 403
        if status:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": status, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            else:
                await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self.app(scope, limited(receive), with_headers)

    def refusal(self, scope: Scope) -> int:
        """The status of what is refused, 0 of what is not."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if host_of(headers.get("host", "")) not in self.hosts:
            return 421
        # The page's own, port and all: another program of this machine is another origin.
        if (origin := headers.get("origin")) and place_of(origin) != place_of(headers["host"]):
            return 403
        path = scope["path"]
        if path.startswith(CLOSED_PAGES):
            return 404
        if path.startswith("/gradio_api/"):
            first = path.removeprefix("/gradio_api/").partition("/")[0]
            if first in CLOSED or first.startswith(("file=", "proxy=")):
                return 404
        length = headers.get("content-length", "0")
        return 413 if not length.isdecimal() or int(length) > LARGEST else 0


def limited(receive: Receive) -> Receive:
    """The same body, cut off where it goes beyond LARGEST without having said so."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= LARGEST else {"type": "http.disconnect"}

    return counted
