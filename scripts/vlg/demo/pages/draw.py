"""The tab that draws: two models from the same noise, as they are denoised, round after round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gradio as gr

from vlg.config.layout import BASE
from vlg.demo import study as limits
from vlg.demo.engine import Drawing, Engine, Estimate, Picture, Waiting
from vlg.demo.pages import html
from vlg.demo.study import PLAIN, Request, Study
from vlg.errors import UserError

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# What takes no time stays out of Gradio's queue: the stream of its answers closes when the last one
# has been sent, and with it goes the answer to a drawing that was asked for in that moment.
SHORT: dict[str, Any] = {**PRIVATE, "queue": False}
PACE = 0.04  # seconds
T = TypeVar("T")
# The engine itself lets one drawing after the other have its turn, and says how many are ahead.
AT_ONCE: dict[str, Any] = {"concurrency_limit": 32, "trigger_mode": "multiple"}


@dataclass
class Side:
    """What has come of one model's drawing so far."""

    name: str
    prompt: str
    now: str = ""
    rounds: list[str] = field(default_factory=list)

    def take(self, event: Estimate | Picture) -> None:
        """Show an event."""
        if isinstance(event, Estimate):
            says = f"{self.prompt}, drawn by {self.name}: an estimate"
            image = html.picture(event.image, says, lossless=False)
            below = f"step {event.step + 1} of {event.steps}"
            title = f"{self.name}, round {event.round}" if event.round else self.name
            self.now = html.figure(title, image, f"<p>{below}</p>", "estimate")
            return
        verdict = {None: "", True: "kept", False: "refused"}[event.accepted]
        title = f"{self.name}, round {event.round}" if event.round else self.name
        image = html.picture(event.image, f"{self.prompt}, drawn by {self.name}")
        self.now = html.figure(title, image, html.scored(event.scores), "picture")
        below = f"<p>{verdict} {event.scores.guide:.1f}</p>"
        self.rounds.append(html.figure(f"round {event.round}", image, below, f"small {verdict}"))

    def __str__(self) -> str:
        strip = f'<div class="rounds">{"".join(self.rounds)}</div>' if len(self.rounds) > 1 else ""
        return self.now + strip


def paced(frames: Iterator[T]) -> Iterator[T]:
    """The same, none sooner than PACE after the one before: a browser shows no more than that."""
    last = 0.0
    for frame in frames:
        time.sleep(max(0.0, last + PACE - time.monotonic()))
        last = time.monotonic()
        yield frame


def frames(drawing: Drawing, names: list[str], prompt: str) -> Iterator[tuple[list[str], str]]:
    """(HTML of each side, a line of status) after each event of a drawing."""
    sides = [Side(name, prompt) for name in names]
    wanted, shown = len(sides), ["" for _ in sides]
    last: dict[int, int] = {}
    for event in drawing:
        if isinstance(event, Waiting):
            yield shown, f"Waiting: {event.ahead} before this one"
            continue
        sides[event.side].take(event)
        shown = [str(side) for side in sides]
        if isinstance(event, Picture):
            last[event.side] = event.round
        yield shown, f"Drawing, round {event.round}" if event.round else "Drawing"
    yield shown, "Done" if len(last) == wanted else "Stopped"


def named(model: str, strength: float) -> str:
    """A model's name, with the share of its fine-tuning where that is not all of it."""
    return model if strength == 1 else f"{model} at {strength:g}"


def prompt_of(study: Study) -> gr.Textbox:
    """A box for a prompt, and a list of the study's to fill it from."""
    texts = [row["Prompt"] for row in study.prompts]
    box = gr.Textbox(
        texts[0] if texts else "", label="Prompt", max_length=limits.LONGEST, max_lines=1
    )
    if texts:
        chosen = gr.Dropdown(texts, value=None, label="Or one of the study's prompts")
        chosen.input(None, chosen, box, js="(text) => text", api_visibility="private")
    return box


def settings_of(study: Study) -> list[gr.components.Component]:
    """Seed, steps, guidance, way, rounds."""
    own = study.sampling
    with gr.Accordion("Settings", open=False):
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=limits.SEED)
            steps = gr.Slider(1, limits.STEPS, min(own.steps, limits.STEPS), step=1, label="Steps")
            scale = gr.Slider(
                1, limits.SCALE, min(own.guidance_scale, limits.SCALE), step=0.1, label="Guidance"
            )
        with gr.Row():
            way = gr.Dropdown(list(study.ways), value=PLAIN, label="Way to draw")
            rounds = gr.Slider(
                1, limits.ROUNDS, 3, step=1, label="Rounds, of a way other than plain"
            )
    return [seed, steps, scale, way, rounds]


def request_of(
    prompt: str,
    models: tuple[str, ...],
    strengths: tuple[float, ...],
    settings: tuple[Any, ...],
    watch: bool = False,
) -> Request:
    """What the fields of a page ask for."""
    seed, steps, scale, way, rounds = settings
    return Request(prompt, models, strengths, seed, steps, scale, way, rounds, watch)


def build(study: Study, engine: Engine, blocks: gr.Blocks) -> None:
    """The tab."""
    models = study.models
    tuned = next((name for name in reversed(models) if study.mixes(name)), None)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            prompt = prompt_of(study)
            with gr.Row():
                left = gr.Dropdown(models, value=BASE, label="Left model")
                right = gr.Dropdown(models, value=tuned or models[-1], label="Right model")
            strength = gr.Slider(
                0,
                limits.STRENGTH,
                1,
                step=0.05,
                label="Strength of the right model's fine-tuning",
                info="0 has the base's weights, 1 its own; let go and it is drawn",
                visible=tuned is not None,
            )
            settings = settings_of(study)
            with gr.Row():
                go = gr.Button("Draw", variant="primary", elem_id="draw-go")
                stop = gr.Button("Stop", elem_id="draw-stop")
        with gr.Column(scale=3, min_width=280):
            status = gr.HTML(html.note("Nothing drawn yet"), elem_id="draw-status")
            with gr.Row(elem_classes="two"):
                one = gr.HTML(elem_id="draw-left", min_height=180)
                two = gr.HTML(elem_id="draw-right", min_height=180)

    def draw(request: gr.Request, prompt, left, right, strength, *settings):
        strengths = (1, strength if study.mixes(right) else 1)
        try:
            asked = request_of(prompt, (left, right), strengths, settings)
            drawing = engine.draw(asked, request.session_hash or "")
            names = [named(*each) for each in zip((left, right), strengths, strict=True)]
            for (first, second), line in paced(frames(drawing, names, prompt)):
                yield first, second, html.note(line)
        except UserError as error:
            raise gr.Error(str(error), duration=20) from None

    def halt(request: gr.Request):
        engine.leave(request.session_hash or "")

    asked = [prompt, left, right, strength, *settings]
    shown = [one, two, status]
    gr.on([go.click, prompt.submit, strength.release], draw, asked, shown, **PRIVATE, **AT_ONCE)
    stop.click(halt, **SHORT)
    blocks.unload(halt)
