"""Pieces of HTML: pictures inside the page, scores and facts under them, plots.

Whatever a user wrote is escaped here. A picture travels inside the page, encoded anew from its
pixels: no file is served, and nothing of what a PNG of the study says of itself gets out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from vlg.demo.engine import Fact, Scores

SMALL = 64  # side in pixels up to which a picture is shown pixel by pixel


def data_uri(image: np.ndarray, lossless: bool = True) -> str:
    """A picture (height, width, 3) uint8 as a data URI: PNG, or WebP for a large estimate."""
    from PIL import Image

    small = max(image.shape[:2]) <= SMALL
    form = "PNG" if lossless or small else "WEBP"
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **({} if form == "PNG" else {"quality": 80}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture(image: np.ndarray, says: str, lossless: bool = True) -> str:
    """An img element; says: its text for who does not see it."""
    kind = "shot pixels" if max(image.shape[:2]) <= SMALL else "shot"
    return f'<img class="{kind}" src="{data_uri(image, lossless)}" alt="{escape(says)}">'


def figure(title: str, image: str, below: str = "", kind: str = "") -> str:
    """A picture with its title above and what is said of it below; title: text, others: HTML."""
    return (
        f'<figure class="card {kind}"><figcaption>{escape(title)}</figcaption>{image}'
        f'<div class="below">{below}</div></figure>'
    )


def scored(scores: Scores) -> str:
    """ClipScore, guide, further judges, and a tick or a cross for each fact."""
    numbers = {"ClipScore": scores.clipscore, "guide": scores.guide, **scores.judges}
    return listed(numbers) + ticks(scores.facts, scores.seen)


def listed(numbers: Mapping[str, float], signed: bool = False) -> str:
    """Numbers by their names."""
    form = "{:+.2f}" if signed else "{:.2f}"
    items = "".join(
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{form.format(value)}</dd></div>"
        for name, value in numbers.items()
    )
    return f'<dl class="numbers">{items}</dl>'


def ticks(facts: Sequence[Fact], seen: str = "") -> str:
    """Each fact of the prompt, whether the picture shows it; what the verifier sees instead."""
    if not facts:
        return ""
    items = "".join(
        f'<li class="{"true" if fact.true else "false"}">'
        f'<span aria-hidden="true">{"✓" if fact.true else "✗"}</span> {escape(fact.name)}'
        f'<span class="heard">: {"shown" if fact.true else "not shown"}</span></li>'
        for fact in facts
    )
    note = f'<p class="seen">The verifier sees: {escape(seen)}</p>' if seen else ""
    return f'<ul class="facts">{items}</ul>{note}'


def note(text: str) -> str:
    """A line that a screen reader is told when it changes."""
    return f'<p class="note" role="status" aria-live="polite">{escape(text)}</p>'


def sliding(first: np.ndarray, second: np.ndarray, names: tuple[str, str], says: str) -> str:
    """Two pictures one over the other, and a slider that shows more of the one or the other."""
    one, two = (
        picture(image, f"{says}, by {name}")
        for image, name in zip((first, second), names, strict=True)
    )
    label = f"How much of {names[1]} is shown: {says}"
    return (
        f'<div class="sliding"><div class="stack">{one}<div class="over">{two}</div></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{escape(label)}" '
        "oninput=\"this.parentElement.style.setProperty('--at', this.value + '%')\">"
        f'<div class="ends"><span>{escape(names[0])}</span><span>{escape(names[1])}</span></div>'
        "</div>"
    )


def plot(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    marks: Sequence[tuple[float, str]] = (),
    width: int = 560,
    height: int = 220,
) -> str:
    """Lines through (x, y) points as an SVG that follows the page's colours; marks: (x, text) of
    vertical lines, at the ends of rounds."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    left, top, bottom = 40, 26, 24
    xs, ys = zip(*points, strict=True)
    right_x = max([*xs, *(x for x, _ in marks), 1])
    low, high = min(ys), max(ys)
    pad = max((high - low) * 0.08, 0.5)
    low, high = low - pad, high + pad

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(left + (width - left - 10) * x / right_x, 1),
            round(top + (height - top - bottom) * (high - y) / (high - low), 1),
        )

    parts = []
    for y in np.linspace(low + pad, high - pad, 4):
        _, at = place(0, y)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 10}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{left - 5}" y="{at + 4}" text-anchor="end">{y:.0f}</text>')
    for x, text in marks:
        at, _ = place(x, low)
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(f'<text x="{at}" y="{height - 8}" text-anchor="end">{escape(text)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline class="line-{number}" points="{path}"/>')
        at = left + 10 + 120 * number
        parts.append(f'<line class="line-{number}" x1="{at}" x2="{at + 22}" y1="12" y2="12"/>')
        parts.append(f'<text x="{at + 28}" y="16">{escape(name)}</text>')
    ends = "; ".join(
        f"{name} from {line[0][1]:.1f} to {line[-1][1]:.1f}" for name, line in lines.items() if line
    )
    words = ". ".join([ends, *(text for _, text in marks)])
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg>'
    )
