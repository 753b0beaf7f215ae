"""Draws and scores for the demo: models loaded once and shared, one heavy computation at a time.

A drawing is a stream of events, estimates as they are denoised and a picture after each round; two
models draw turn by turn, a step of one and a step of the other, from the same noise. What is drawn
is what the study would draw: the same sampler, arms and keys of noise.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.config.layout import BASE
from vlg.demo.study import GUIDE, Request, Study
from vlg.errors import UserError
from vlg.sample import arm as arms
from vlg.sample.listing import Picture as Wanted

if TYPE_CHECKING:
    import torch

    from vlg.judge.kind import Judge
    from vlg.models.family import Family, Step
    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

HELD = 8 * 2**30  # bytes of weights, as on disk, that are held at most, if more than one model is
SMALL = 64  # side in pixels up to which every step's estimate is worth decoding


@dataclass(frozen=True)
class Fact:
    """A kind of statement of a prompt, and the share of those of it that a picture shows."""

    name: str
    share: float

    @property
    def true(self) -> bool:
        return self.share == 1


@dataclass(frozen=True)
class Scores:
    """What is said of a picture: 100 cos by judge and guide, further judges, facts where the
    verifier understands the prompt, and what it sees in the picture, in words."""

    clipscore: float
    guide: float
    judges: Mapping[str, float] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    seen: str = ""


@dataclass(frozen=True)
class Waiting:
    """So many drawings come before this one."""

    ahead: int


@dataclass(frozen=True)
class Estimate:
    """What the picture is estimated to be before step `step` of `steps`, (height, width, 3) uint8.

    side: which of the models draws it. round: 0 of the plain picture. scores: of a request that
    watches.
    """

    side: int
    round: int
    step: int
    steps: int
    image: np.ndarray
    scores: Scores | None = None


@dataclass(frozen=True)
class Picture:
    """What stands after a round; accepted: whether the guide took it, None where nobody chose."""

    side: int
    round: int
    image: np.ndarray
    scores: Scores
    accepted: bool | None = None


Event = Waiting | Estimate | Picture
Tell = Callable[[Event], None]


class Cancelled(Exception):
    """Nobody waits for this drawing any more."""


class Drawing:
    """The events of a drawing in their order; `cancel` ends it before its next step."""

    END = object()

    def __init__(self, work: Callable[[Tell], None], turns: ThreadPoolExecutor, ahead: int) -> None:
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        if ahead:
            self._events.put(Waiting(ahead))
        self._future: Future[None] = turns.submit(self._run, work)

    def _run(self, work: Callable[[Tell], None]) -> None:
        try:
            if not self._cancelled.is_set():
                work(self._tell)
        except Cancelled:
            pass
        except BaseException as error:  # told to whoever waits
            self._events.put(error)
        finally:
            self._events.put(self.END)

    def _tell(self, event: Event) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        self._events.put(event)

    def __iter__(self) -> Iterator[Event]:
        try:
            while (event := self._events.get()) is not self.END:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.cancel()

    @property
    def done(self) -> bool:
        return self._future.done()

    def cancel(self) -> None:
        self._cancelled.set()
        self._future.cancel()
        self._events.put(self.END)


class Steps:
    """A function that tells events, run in another thread as far as each next one is asked for."""

    def __init__(self, function: Callable[[Tell], None], threads: ThreadPoolExecutor) -> None:
        self._box: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._go, self._closed, self._over = threading.Semaphore(0), False, False
        threads.submit(self._run, function)

    def _run(self, function: Callable[[Tell], None]) -> None:
        self._go.acquire()
        end: Any = Drawing.END
        try:
            if not self._closed:
                function(self._tell)
        except Cancelled:
            pass
        except BaseException as error:  # raised where the next event is asked for
            end = error
        self._box.put(end)

    def _tell(self, event: Event) -> None:
        self._box.put(event)
        self._go.acquire()
        if self._closed:
            raise Cancelled

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._over:
            raise StopIteration
        self._go.release()
        event = self._box.get()
        if event is Drawing.END or isinstance(event, BaseException):
            self._over = True
            raise StopIteration if event is Drawing.END else event
        return event

    def close(self) -> None:
        """Let the function end, and wait until it has."""
        while not self._over:
            self._closed = True
            with contextlib.suppress(BaseException):
                next(self)


def in_turn(parts: list[Steps]) -> Iterator[Event]:
    """The next event of each in turn, until all have ended; what is left of them is closed."""
    try:
        ended = object()
        for events in itertools.zip_longest(*parts, fillvalue=ended):
            yield from (event for event in events if event is not ended)
    finally:
        for part in parts:
            part.close()


class Engine:
    """The models of a study, ready to draw; what it computes happens one after the other."""

    def __init__(self, study: Study, device: str = "auto", threads: int = 1) -> None:
        """device, threads: as `vlg.models.device.set_up` has them."""
        self.study = study
        self._asked = device, threads
        self._turns = ThreadPoolExecutor(1, "turn")
        self._threads = ThreadPoolExecutor(2, "draw")
        self._lock = threading.Lock()
        self._begun: list[
            tuple[str, Drawing]
        ] = []  # by whom; those that are over may be among them
        self._samplers: OrderedDict[str, Sampler] = OrderedDict()
        self._mixed: dict[str, Sampler] = {}
        self._guides: dict[str, Guide] = {}
        self._judges: dict[str, Judge] = {}
        self._preview: Family | None = None
        self._on_step = threading.local()
        self._device = ""

    # --- what pages ask for ---

    def load(self, *models: str) -> None:
        """Have these models, the guide and the judges in memory, and drawn once."""
        first = self.study.prompts[0]["Prompt"] if self.study.prompts else "a picture"
        for model in models:
            for _ in self.draw(Request(first, (model,), steps=2)):
                pass

    def draw(self, request: Request, owner: str = "") -> Drawing:
        """Draw what is asked for, as soon as it is its turn.

        owner: whoever asks; what this one asked for before is cancelled.
        """
        request.checked(self.study)
        return self._start(lambda tell: self._drawn(request, tell), owner)

    def score(self, image: np.ndarray, prompt: str, owner: str = "") -> Scores:
        """What judges, guide and verifier say of a picture (height, width, 3) uint8."""
        found: list[Scores] = []
        for _ in self._start(lambda tell: found.append(self._scores(image, prompt)), owner):
            pass
        return found[0]

    def leave(self, owner: str) -> None:
        """Whoever it was is gone: cancel what was asked for."""
        with self._lock:
            gone = [drawing for who, drawing in self._begun if who == owner]
        for drawing in gone:
            drawing.cancel()

    def close(self) -> None:
        """Cancel everything and end the threads."""
        for _, drawing in self._begun:
            drawing.cancel()
        self._turns.shutdown(cancel_futures=True)
        self._threads.shutdown()

    def _start(self, work: Callable[[Tell], None], owner: str) -> Drawing:
        if owner:
            self.leave(owner)
        with self._lock:
            self._begun = [each for each in self._begun if not each[1].done]
            drawing = Drawing(work, self._turns, len(self._begun))
            self._begun.append((owner, drawing))
        return drawing

    # --- drawing, in the one thread of turns and the two that it waits for ---

    def _drawn(self, request: Request, tell: Tell) -> None:
        strengths = request.strengths or (1.0,) * len(request.models)
        way = self.study.ways[request.way]
        arm = arms.load(way.kind, way.keys) if way else None
        guide = self._guide(way.guide if way else GUIDE)

        def part(side: int, model: str, strength: float) -> Callable[[Tell], None]:
            sampler = self._sampler(model, strength)
            sampler.settings = request.sampling(self.study)
            if way and "base" in way.needs:
                sampler.base = self._sampler(BASE, 1.0).family
            return lambda told: self._rounds(side, sampler, arm, guide, request, told)

        both = zip(request.models, strengths, strict=True)
        parts = [part(side, *each) for side, each in enumerate(both)]
        with contextlib.closing(in_turn([Steps(each, self._threads) for each in parts])) as events:
            for event in events:
                tell(event)

    def _rounds(
        self,
        side: int,
        sampler: Sampler,
        arm: arms.Arm | None,
        guide: Guide,
        request: Request,
        tell: Tell,
    ) -> None:
        """One model's part: the plain picture where it is needed, then the rounds of the arm."""
        from vlg.models.cosines import guide_scores

        text, seeds = request.prompt, [request.seed]
        wanted = [Wanted("demo", text, request.seed, "study")]
        before = arms.Before(0, wanted)
        if arm is None or "pictures" in arm.needs:
            with self._seen(side, 0, sampler, request, tell):
                images = sampler.draw([text], seeds)
            tell(Picture(side, 0, images[0], self._scores(images[0], text)))
            before = arms.Before(0, wanted, images, guide_scores(guide, images, [text]))
        for number in range(1, request.rounds + 1 if arm else 1):
            before = arms.Before(number, wanted, before.images, before.scores, before.states)
            with self._seen(side, number, sampler, request, tell):
                drawn = arm.draw(sampler, guide if "guide" in arm.needs else None, before)
            chosen = None if drawn.accepted is None else drawn.accepted[0]
            scores = self._scores(drawn.images[0], text)
            tell(Picture(side, number, drawn.images[0], scores, chosen))
            before = arms.Before(number, wanted, drawn.images, drawn.scores, drawn.states)

    @contextlib.contextmanager
    def _seen(
        self, side: int, number: int, sampler: Sampler, request: Request, tell: Tell
    ) -> Iterator[None]:
        """Within, tell of the steps that this thread's drawing takes."""
        from vlg.sample.sampler import as_images

        family = self._small() or sampler.family
        every = 1 if self._preview or family.resolution <= SMALL else 2
        steps = sampler.settings.steps

        def on_step(step: Step) -> None:
            if step.index % every:
                return
            import torch

            with torch.no_grad():
                # Of several samples of the picture the first is shown.
                latents = step.estimate[:1].detach().to(family.dtype)
                image = as_images(family.decode(latents).nan_to_num(0))[0]
            scores = self._scores(image, request.prompt) if request.watch else None
            tell(Estimate(side, number, step.index, steps, image, scores))

        self._on_step.seen = on_step
        try:
            yield
        finally:
            self._on_step.seen = None

    def _scores(self, image: np.ndarray, prompt: str) -> Scores:
        from vlg.models.cosines import guide_scores

        def judged(name: str) -> float:
            judge = self._judge(name)
            return float(judge(judge.prepare([image]), [prompt])[0])

        further = {name: judged(name) for name in self.study.judges}
        guided = guide_scores(self._guide(GUIDE), image[None], [prompt])[0]
        facts, seen = read_facts(image, prompt) if self.study.truth else ((), "")
        return Scores(judged(""), guided, further, facts, seen)

    # --- models ---

    def _ready(self) -> str:
        """The device; set up in each thread that computes."""
        from vlg.models.device import set_up

        if not self._device:
            self._device = set_up(*self._asked)
        return self._device

    def _sampler(self, model: str, strength: float) -> Sampler:
        """A model's sampler, with its weights as far from the base's as `strength` says."""
        mixes = strength != 1 and self.study.mixes(model)
        if model not in self._samplers:
            self._make_room(model)
            from vlg.sample.sampler import Sampler

            sampler = Sampler(self.study.model(model), self.study.sampling, self._ready())
            self._watch(sampler.family)
            self._samplers[model] = sampler
        self._samplers.move_to_end(model)
        return self._mix(model, strength) if mixes else self._samplers[model]

    def _make_room(self, model: str) -> None:
        """Forget the models that were used longest ago, until this one fits."""

        def size(name: str) -> int:
            files = self.study.model(name).rglob("*.safetensors")
            return sum(file.stat().st_size for file in files)

        held = size(model) + sum(map(size, self._samplers))
        for name in [each for each in self._samplers if each != BASE]:
            if held <= HELD:
                return
            held -= size(name)
            del self._samplers[name]
            self._mixed.pop(name, None)

    def _mix(self, model: str, strength: float) -> Sampler:
        """The model with the weights base + strength * (own - base) in its network."""
        import torch

        from vlg.models.device import place

        own = self._samplers[model].family
        if model not in self._mixed:
            sampler = copy.copy(self._samplers[model])
            sampler.family = copy.copy(own)
            net = own.network().to(own.dtype).eval().requires_grad_(False)
            sampler.family.net = place(net, own.device)
            self._watch(sampler.family)
            self._mixed[model] = sampler
        base = self._sampler(BASE, 1.0).family.net.state_dict()
        mine, mixed = own.net.state_dict(), self._mixed[model].family.net.state_dict()
        if shapes(base) != shapes(mine):
            raise UserError(f"strength: {model} is built otherwise than base; leave it at 1")
        with torch.no_grad():
            for name, weights in mixed.items():
                if weights.is_floating_point():
                    torch.lerp(base[name], mine[name], strength, out=weights)
        return self._mixed[model]

    def _watch(self, family: Family) -> None:
        """Have each drawing with a family seen by the thread that draws."""
        sample = type(family).sample

        def watched(*given: Any, on_step: Callable[[Step], None] | None = None, **more: Any) -> Any:
            def both(step: Step) -> None:
                if on_step:
                    on_step(step)
                if seen := getattr(self._on_step, "seen", None):
                    seen(step)

            return sample(family, *given, on_step=both, **more)

        family.sample = watched  # type: ignore[method-assign]

    def _small(self) -> Family | None:
        """The base with a small decoder, which estimates are decoded by, where there is one."""
        if self.study.decoder and not self._preview:
            base = self._samplers[next(iter(self._samplers))].family
            self._preview = type(base)(base.folder, base.device)
            self._preview.use_decoder(self.study.decoder)
        return self._preview

    def _guide(self, name: str) -> Guide:
        if name not in self._guides:
            from vlg.models.guide import load_guide

            self._guides[name] = load_guide(self.study.model(name), self._ready())
        return self._guides[name]

    def _judge(self, name: str) -> Judge:
        """A further judge, or the study's own by the name ""."""
        if name not in self._judges:
            from vlg.judge import kind

            own = {"kind": kind.OWN, "source": str(self.study.model("judge"))}
            entry = self.study.judges[name] if name else own
            self._judges[name] = kind.load(entry, self._ready())
        return self._judges[name]


def shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a network."""
    return {name: tuple(each.shape) for name, each in weights.items()}


def read_facts(image: np.ndarray, prompt: str) -> tuple[tuple[Fact, ...], str]:
    """(the facts of a prompt that the verifier finds in a picture or not, what it sees there).

    Nothing for a prompt that the shapes world does not understand.
    """
    from vlg.judge.columns import FACTS
    from vlg.judge.scoring import verifier
    from vlg.shapes.verify import read
    from vlg.shapes.world import SIDE

    found = verifier()(image, prompt)
    facts = tuple(Fact(name, found[name]) for name in FACTS if found.get(name) is not None)
    if not facts or image.shape[:2] != (SIDE, SIDE):
        return facts, ""
    background, things = read(image)
    words = [
        f"{t.size} {t.colour or 'odd-coloured'} {t.shape or 'blot'}" if t.size else "smear"
        for t in things
    ]
    return facts, f"{', '.join(words) or 'nothing'} on {background or 'no known background'}"
