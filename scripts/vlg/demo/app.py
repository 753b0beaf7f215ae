"""The page put together, and served."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.demo.engine import Engine
from vlg.demo.guard import LOCAL, Guard
from vlg.demo.study import Study
from vlg.errors import UserError

if TYPE_CHECKING:
    import gradio as gr

STYLE = Path(__file__).with_name("style.css")
# Read when Gradio is imported: it asks nobody anything, and sees soon that a page is gone.
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_HEARTBEAT_INTERVAL": "1",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
}
FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")


def blocks(study: Study, engine: Engine) -> gr.Blocks:
    """All tabs."""
    os.environ.update(QUIET)
    import gradio as gr

    from vlg.demo.pages import api, compare, draw, vote, watch
    from vlg.demo.pages.shared import Shared

    shared = Shared(study)

    with gr.Blocks(title=f"{study.name}: demo", analytics_enabled=False) as page:
        api.build(study, engine)  # first: what pages call by the same names gets others
        gr.HTML(f"<h1>{study.name}</h1>", elem_id="head")
        with gr.Tab("Draw"):
            draw.build(study, engine, page)
        with gr.Tab("Watch"):
            watch.build(study, engine)
        with gr.Tab("Compare"):
            compare.build(shared, page)
        with gr.Tab("Vote"):
            vote.build(shared, page)
    return page.queue(max_size=64)


def theme() -> gr.Theme:
    """Gradio's own in blue, its pale texts and buttons dark enough to be read (WCAG AA)."""
    import gradio as gr

    font, mono = FONTS
    own = gr.themes.Default(primary_hue="blue", font=list(font), font_mono=list(mono))
    pale, dark = "*neutral_600", "*neutral_300"
    return own.set(
        body_text_color_subdued=pale,
        body_text_color_subdued_dark=dark,
        block_info_text_color=pale,
        block_info_text_color_dark=dark,
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        color_accent="*primary_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def application(
    study: Study, engine: Engine, hosts: Iterable[str] = LOCAL, mcp: bool = False
) -> Any:
    """The ASGI application; hosts: names by which it may be asked for. mcp: offer the API to
    assistants, too."""
    page = blocks(study, engine)
    import gradio as gr
    from fastapi import FastAPI

    from vlg.demo.pages.vote import KEYS

    outside = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted = gr.mount_gradio_app(
        outside,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=mcp,
        show_error=False,
        theme=theme(),
        css=STYLE.read_text(encoding="utf-8"),
        head=KEYS,
    )
    return Guard(mounted, hosts)


def serve(app: Any, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until the process is told to stop; tell: called with the page's address.

    UserError when the port is taken.
    """
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise UserError(
                f"--port: {host}:{port} cannot be had ({error.strerror}); give another, or 0"
            ) from None
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        listening.listen()
        tell(f"http://{shown}:{listening.getsockname()[1]}")
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=1, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listening])
