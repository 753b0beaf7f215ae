"""The same for programs: `draw`, `score` and `models` of Gradio's own API (docs/demo.md)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import gradio as gr

from vlg.config.layout import BASE
from vlg.data import pixels
from vlg.demo.engine import Engine, Picture, Scores
from vlg.demo.pages import html
from vlg.demo.study import PLAIN, Request, Study, check_prompt
from vlg.errors import UserError

LARGEST = 4 * 2**20  # characters of a picture that is sent, in base64
SIDE = 2048  # pixels
AT_ONCE: dict[str, Any] = {"concurrency_limit": 8}


def said(scores: Scores) -> dict[str, Any]:
    """Scores as JSON has them."""
    return {
        "clipscore": scores.clipscore,
        "guide": scores.guide,
        "judges": dict(scores.judges),
        "facts": {fact.name: fact.share for fact in scores.facts},
        "seen": scores.seen,
    }


def decoded(picture: str) -> Any:
    """The pixels of a data URI, or of base64 alone; UserError for what is none or too large."""
    import numpy as np

    text = picture.partition(",")[2] if picture.startswith("data:") else picture
    if len(text) > LARGEST:
        raise UserError(f"picture: {len(text)} characters; send at most {LARGEST}")
    try:
        image = pixels.read(base64.b64decode(text, validate=True))
    except (pixels.Unreadable, binascii.Error, ValueError) as error:
        raise UserError(f"picture: {error}; send a PNG, JPEG or WebP in base64") from None
    if max(image.size) > SIDE:
        raise UserError(f"picture: {image.size} pixels; send at most {SIDE} a side")
    return np.asarray(image)


def build(study: Study, engine: Engine) -> None:
    """Register them."""

    def draw(
        prompt: str,
        model: str = BASE,
        seed: int = 0,
        way: str = PLAIN,
        rounds: int = 1,
        steps: int = 0,
        guidance_scale: float = 0,
        strength: float = 1,
    ) -> dict:
        """Draw a prompt and score the picture. steps, guidance_scale: 0 for the study's. Returns
        `picture`, a PNG as a data URI, its scores, and the same of each round in `rounds`."""
        try:
            request = Request(
                prompt,
                (model,),
                (strength,),
                seed,
                steps or None,
                guidance_scale or None,
                way,
                rounds,
            )
            found = [event for event in engine.draw(request) if isinstance(event, Picture)]
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        made = [
            {"round": e.round, "accepted": e.accepted, **said(e.scores)}
            | {"picture": html.data_uri(e.image)}
            for e in found
        ]
        return {**made[-1], "rounds": made}

    def score(picture: str, prompt: str) -> dict:
        """What judge, guide, further judges and verifier say of a picture (a data URI, or base64 of
        a PNG, JPEG or WebP) for a prompt."""
        try:
            check_prompt(prompt)
            return said(engine.score(decoded(picture), prompt))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def models() -> dict:
        """The names of the study's models, and of the ways to draw."""
        return {"models": study.models, "ways": list(study.ways)}

    for function in (draw, score, models):
        gr.api(function, api_name=function.__name__, **AT_ONCE)
