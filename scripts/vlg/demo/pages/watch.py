"""The tab that watches: what judge and guide say of each estimate, and what each round kept."""

from __future__ import annotations

import gradio as gr

from vlg.demo.engine import Engine, Estimate, Picture, Waiting
from vlg.demo.pages import html
from vlg.demo.pages.draw import AT_ONCE, PRIVATE, Side, prompt_of, request_of, settings_of
from vlg.demo.study import Study
from vlg.errors import UserError


class Course:
    """The scores of one drawing in the order of its steps."""

    def __init__(self) -> None:
        self.lines: dict[str, list[tuple[float, float]]] = {"judge": [], "guide": []}
        self.marks: list[tuple[float, str]] = []
        self.at = 0

    def take(self, event: Estimate | Picture) -> None:
        """Add an event: a point of each line, and a mark where a round ends."""
        if event.scores:
            self.lines["judge"].append((self.at, event.scores.clipscore))
            self.lines["guide"].append((self.at, event.scores.guide))
        if isinstance(event, Picture):
            verdict = {None: "drawn", True: "✓ kept", False: "✗ refused"}[event.accepted]
            self.marks.append((self.at, f"{event.round} {verdict}"))
        self.at += 1

    def __str__(self) -> str:
        return html.plot(self.lines, self.marks)


def build(study: Study, engine: Engine) -> None:
    """The tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            prompt = prompt_of(study)
            model = gr.Dropdown(study.models, value=study.models[0], label="Model")
            settings = settings_of(study)
            go = gr.Button("Watch", variant="primary", elem_id="watch-go")
        with gr.Column(scale=3, min_width=280):
            status = gr.HTML(html.note("Nothing watched yet"), elem_id="watch-status")
            plot = gr.HTML(elem_id="watch-plot", min_height=180)
            shot = gr.HTML(elem_id="watch-picture", min_height=180)

    def watch(request: gr.Request, prompt, model, *settings):
        try:
            asked = request_of(prompt, (model,), (1,), settings, watch=True)
            drawing = engine.draw(asked, request.session_hash or "")
            side, course, line = Side(model, prompt), Course(), "Drawing"
            for event in drawing:
                if isinstance(event, Waiting):
                    line = f"Waiting: {event.ahead} before this one"
                else:
                    side.take(event)
                    course.take(event)
                    line = f"Drawing, round {event.round}"
                yield str(course), str(side), html.note(line)
            yield str(course), str(side), html.note("Done" if side.rounds else "Stopped")
        except UserError as error:
            raise gr.Error(str(error), duration=20) from None

    asked = [prompt, model, *settings]
    gr.on([go.click, prompt.submit], watch, asked, [plot, shot, status], **PRIVATE, **AT_ONCE)
