"""The tab that asks people: two pictures, sides and models hidden until the vote is written."""

from __future__ import annotations

import gradio as gr

from vlg.demo.arena import BACK, NAME, Arena, Ballot, Comparison, rater_name
from vlg.demo.pages import html
from vlg.demo.pages.draw import SHORT
from vlg.demo.pages.shared import Shared
from vlg.demo.votes import BAD, LEFT, RIGHT, TIE
from vlg.errors import UserError

ANY = "whichever has had the fewest votes"
BUTTONS = {LEFT: "Left is better", RIGHT: "Right is better", TIE: "Tie", BAD: "Both bad"}
# Presses the button of a key, where keys are wanted and nothing is being written.
KEYS = """
<script>
document.addEventListener("keydown", (event) => {
  const wanted = document.querySelector("#vote-keys input");
  if (!wanted || !wanted.checked || event.ctrlKey || event.altKey || event.metaKey) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox")
    return;
  const name = {ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", ArrowUp: "both_bad",
                Enter: "next"}[event.key];
  const button = name && document.getElementById("vote-" + name);
  if (!button || button.disabled || !button.offsetParent || event.target === button) return;
  event.preventDefault();
  button.click();
});
</script>
"""


def named(comparison: Comparison) -> str:
    """A comparison's name in the list."""
    return " against ".join(entry.name for entry in comparison)


def asked(arena: Arena, name: str) -> Comparison | None:
    """The comparison of a name in the list, None for whichever."""
    return {named(each): each for each in arena.comparisons}.get(name)


def pictures(shared: Shared, ballot: Ballot, titles: tuple[str, str]) -> tuple[str, str]:
    """Both pictures of a ballot under these titles."""
    finished = shared.finished()
    both = zip(titles, ballot.pictures, ("left", "right"), strict=True)
    return tuple(  # type: ignore[return-value]
        html.figure(title, html.picture(finished.image(each), f"{ballot.prompt}: {side} picture"))
        for title, each, side in both
    )


def progress(arena: Arena, comparison: Comparison) -> str:
    """How many votes there are of those that would settle a comparison."""
    at = arena.progress(comparison)
    done = min(at.decided, at.needed)
    words = f"{at.decided} of {at.needed} decided votes that would settle it ({at.votes} in all)"
    if at.decided >= at.needed:
        words += ": settled" if at.settled else ": no side is ahead by more than chance explains"
    label = f"{named(comparison)}: {words}"
    return (
        f'<div class="progress"><p>{html.escape(label)}</p>'
        f'<progress max="{at.needed}" value="{done}" aria-label="{html.escape(label)}">'
        "</progress></div>"
    )


def build(shared: Shared, blocks: gr.Blocks) -> None:
    """The tab."""
    with gr.Row():
        rater = gr.Textbox(label="Your name, if you like", max_length=NAME, max_lines=1)
        which = gr.Dropdown([ANY], value=ANY, label="What is compared")
        gr.Checkbox(False, label="Keys: ← → ↓ tie, ↑ both bad, Enter next", elem_id="vote-keys")
    prompt = gr.HTML(
        html.note("Two pictures of one prompt; say which is better"), elem_id="vote-prompt"
    )
    with gr.Row(elem_classes="two"):
        one = gr.HTML(elem_id="vote-one", min_height=180)
        two = gr.HTML(elem_id="vote-two", min_height=180)
    with gr.Row():
        votes = {
            vote: gr.Button(label, interactive=False, min_width=130, elem_id=f"vote-{vote}")
            for vote, label in BUTTONS.items()
        }
    with gr.Row():
        go = gr.Button("Show two pictures", variant="primary", elem_id="vote-next")
        back = gr.Button("Take back", interactive=False, elem_id="vote-back")
    said = gr.HTML(elem_id="vote-said")
    tally = gr.HTML(elem_id="vote-tally")
    open_ballot, guest, last = gr.State(""), gr.State(""), gr.State("")
    timer = gr.Timer(BACK, active=False)

    buttons = list(votes.values())
    shown = [prompt, one, two, *buttons, go, back, said, tally, open_ballot, guest, last, timer]

    def show(name, which, guest):
        guest = guest or rater_name("")
        who = rater_name(name) if str(name or "").strip() else guest
        try:
            arena = shared.arena()
            ballot = arena.ballot(who, asked(arena, which))
            if ballot is None:
                line = html.note("You have judged all there are here; thank you")
                return closed(line, guest)
            both = pictures(shared, ballot, ("Left", "Right"))
        except UserError as error:
            raise gr.Error(str(error), duration=20) from None
        on = [gr.Button(interactive=True) for _ in buttons]
        head = f'<p class="ask" role="status" aria-live="polite">{html.escape(ballot.prompt)}</p>'
        end = [gr.Button("Another pair"), gr.Button(interactive=False), "", "", ballot.name, guest]
        return [head, *both, *on, *end, "", gr.Timer(active=False)]

    def closed(line, guest):
        off = [gr.Button(interactive=False) for _ in buttons]
        end = [gr.Button("Another pair"), gr.Button(interactive=False), "", "", "", guest, ""]
        return [line, "", "", *off, *end, gr.Timer(active=False)]

    def given(vote):
        def give(name, guest):
            try:
                arena = shared.arena()
                ballot = arena.vote(name, vote)
                both = pictures(shared, ballot, tuple(side.name for side in ballot.sides))
                at = progress(arena, next(c for c in arena.comparisons if set(c) == ballot.of))
            except UserError as error:
                raise gr.Error(str(error), duration=20) from None
            off = [gr.Button(interactive=False) for _ in buttons]
            sides = " and ".join(
                f"{side} was {entry.name}"
                for side, entry in zip(("left", "right"), ballot.sides, strict=True)
            )
            line = html.note(f"{BUTTONS[vote]}: {sides}")
            end = [gr.Button("Next pair"), gr.Button(interactive=True), line, at, "", guest]
            return [gr.skip(), *both, *off, *end, ballot.name, gr.Timer(active=True)]

        return give

    def take_back(name, guest):
        try:
            done = shared.arena().take_back(name)
        except UserError as error:
            raise gr.Error(str(error), duration=20) from None
        line = html.note("Taken back" if done else "Too late to take it back")
        if done:
            return closed(line, guest)
        kept = [gr.skip() for _ in range(3 + len(buttons) + 1)]
        return [
            *kept,
            gr.Button(interactive=False),
            line,
            *[gr.skip()] * 3,
            "",
            gr.Timer(active=False),
        ]

    def over():
        return gr.Button(interactive=False), gr.Timer(active=False)

    def choices():
        try:
            names = [named(each) for each in shared.arena().comparisons]
        except UserError as error:
            return gr.Dropdown([ANY], value=ANY), html.note(str(error))
        return gr.Dropdown([ANY, *names], value=ANY), gr.skip()

    go.click(show, [rater, which, guest], shown, **SHORT)
    for vote, button in votes.items():
        button.click(given(vote), [open_ballot, guest], shown, **SHORT)
    back.click(take_back, [last, guest], shown, **SHORT)
    timer.tick(over, None, [back, timer], **SHORT)
    blocks.load(choices, None, [which, prompt], **SHORT)
