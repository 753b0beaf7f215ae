"""The tab that compares: the finished study's pictures of two models, with a slider between."""

from __future__ import annotations

import gradio as gr

from vlg.demo.finished import GAIN, ORDERS, Entry, Finished
from vlg.demo.pages import html
from vlg.demo.pages.draw import SHORT
from vlg.demo.pages.shared import Shared
from vlg.errors import UserError

SHOWN = 12  # pairs, and so many more at each press
MOST = 120
LABELS = {"clipscore": "ClipScore"}


def listed(
    finished: Finished, names: tuple[str, str], words: str, order: str, count: int
) -> tuple[str, str]:
    """(HTML of the first `count` pairs, a line that says how many there are)."""
    known = {entry.name: entry for entry in finished.entries}
    if not all(name in known for name in names):
        raise UserError("compare: a model that has no pictures; choose two of the lists")
    one, two = (known[name] for name in names)
    found = finished.search(one, two, words[:200], order)
    cards = []
    for pair in found[:count]:
        says = f"{pair.prompt}, seed {pair.cell.seed}"
        both = finished.image(pair.first), finished.image(pair.second)
        gains = {LABELS.get(name, name): gain for name, gain in pair.gains.items()}
        below = html.listed(gains, signed=True)
        cards.append(html.figure(says, html.sliding(*both, names, says), below))
    line = f"{len(found)} pairs, the first {len(cards)} shown; numbers are right minus left"
    return (
        f'<div class="pairs">{"".join(cards)}</div>',
        line if found else "No pair has these words",
    )


def build(shared: Shared, blocks: gr.Blocks) -> None:
    """The tab."""
    with gr.Row():
        left = gr.Dropdown([], label="Left")
        right = gr.Dropdown([], label="Right")
        words = gr.Textbox(label="Words of the prompt", max_length=200, max_lines=1)
        order = gr.Dropdown(list(ORDERS), value=GAIN, label="Sorted by")
    show = gr.Button("Show", variant="primary", elem_id="compare-go")
    status = gr.HTML(elem_id="compare-status")
    pairs = gr.HTML(elem_id="compare-pairs")
    more = gr.Button("More", visible=False, elem_id="compare-more")
    count = gr.State(SHOWN)

    def search(left, right, words, order, count):
        try:
            cards, line = listed(shared.finished(), (left, right), words, order, count)
        except UserError as error:
            raise gr.Error(str(error), duration=20) from None
        return cards, html.note(line), gr.Button(visible=count < MOST), count

    def again(left, right, words, order):
        return search(left, right, words, order, SHOWN)

    def further(left, right, words, order, count):
        return search(left, right, words, order, min(count + SHOWN, MOST))

    def choices():
        try:
            names = [entry.name for entry in shared.finished().entries]
        except UserError as error:
            return gr.Dropdown([]), gr.Dropdown([]), html.note(str(error))
        plain = [e.name for e in shared.finished().entries if not e.arm]
        first = Entry("base").name if Entry("base").name in names else names[0]
        return (
            gr.Dropdown(names, value=first),
            gr.Dropdown(names, value=plain[-1] if plain else names[-1]),
            html.note("Choose two and press Show"),
        )

    asked = [left, right, words, order]
    shown = [pairs, status, more, count]
    gr.on([show.click, words.submit], again, asked, shown, **SHORT)
    more.click(further, [*asked, count], shown, **SHORT)
    blocks.load(choices, None, [left, right, status], **SHORT)
