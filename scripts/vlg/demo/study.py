"""What of a study the demo has to work with: its models, prompts, ways to draw, judges, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.config import plan, sections, variants
from vlg.config.kinds import settings_of
from vlg.config.layout import BASE, Layout, folder, parse_model
from vlg.data import hub, prompts
from vlg.errors import UserError
from vlg.files import MANIFEST
from vlg.models.families import INDEX

PLAIN = "plain"
GUIDE = "guide"
# What one request may ask for; a page is for everybody who can open it.
LONGEST = 300  # characters of a prompt
STEPS = 50
SCALE = 20.0
ROUNDS = 8
SEED = 2**31 - 1
STRENGTH = 1.5


@dataclass(frozen=True)
class Way:
    """A way to draw: a kind of arm with its keys, and the folder of the guide that it follows."""

    kind: str
    keys: Mapping[str, Any]
    guide: str = GUIDE

    @property
    def needs(self) -> frozenset[str]:
        """What it works with, of guide, pictures and base."""
        return frozenset(plugins.constant(plugins.ARMS, self.kind, "NEEDS", ()))


@dataclass(frozen=True)
class Study:
    """A study, finished or not.

    config: as `vlg.config.load.load` returns it. top: the folder that holds `results`.
    """

    config: Mapping[str, Any]
    top: Path = Path()

    @property
    def name(self) -> str:
        return self.config["study"]

    @property
    def root(self) -> Path:
        """results/<study>."""
        return self.top / Layout(self.name).root

    @property
    def votes(self) -> Path:
        """The file of people's votes."""
        return self.top / Layout(self.name).votes

    def model(self, name: str) -> Path:
        """The folder of a model, guide or judge of this study."""
        return self.root / "models" / name

    @cached_property
    def models(self) -> list[str]:
        """Names of the models that can draw: those that the config asks for, in its order, then
        whatever else is there. UserError when there is none."""
        there = {
            path.parent.name
            for path in self.root.glob(f"models/*/{INDEX}")
            if (path.parent / MANIFEST).is_file()
        }
        asked = [name for name in plan.runs(dict(self.config)) if name in there]
        result = [*asked, *sorted(there - {*asked})]
        if BASE not in result:
            raise UserError(
                f"{self.model(BASE)}: no model to draw with; `make demo` makes it, as does "
                "`make study`"
            )
        return result

    def mixes(self, model: str) -> bool:
        """Whether a model is a fine-tuned one, whose weights can be mixed with the base's."""
        try:
            return parse_model(model).step > 0
        except ValueError:
            return False

    @cached_property
    def prompts(self) -> list[dict[str, str]]:
        """The study's prompts, as rows of prompts.tsv; none where it has not been written."""
        path = self.root / "prompts.tsv"
        return prompts.read_table(path) if path.is_file() else []

    @cached_property
    def ways(self) -> dict[str, Way | None]:
        """The ways to draw by name: `plain`, the arms of the config, and every other kind of arm
        with its defaults."""
        result: dict[str, Way | None] = {PLAIN: None}
        for name, arm in plan.all_arms(self.config).items():
            guide = f"{GUIDE}_{arm.settings.guide}" if arm.settings.guide else GUIDE
            result[name] = Way(arm.kind, arm.settings.handed_on(), guide)
        used = {way.kind for way in result.values() if way}
        for kind in plugins.names(plugins.ARMS):
            keys = settings_of(plugins.ARMS, kind)
            needed = any(field.is_required() for field in keys.model_fields.values())
            if kind not in used and kind not in result and not needed:
                result[kind] = Way(kind, keys().handed_on())
        return result

    @cached_property
    def judges(self) -> dict[str, Mapping[str, Any]]:
        """The entries of the further judges that are here, by name; the source of a download is
        its folder."""
        result = {}
        for name, settings in plan.judges(self.config).items():
            values = settings.handed_on()
            if hub.parse(values["source"]):
                place = self.top / folder(Layout(self.name).download(f"judge_{name}"))
                if not (place / MANIFEST).is_file():
                    continue
                values["source"] = str(place)
            result[name] = values
        return result

    @property
    def sampling(self) -> sections.Sampling:
        """How the study draws its pictures."""
        return sections.Sampling.parse(plan.sampling(dict(self.config)), "generate")

    @property
    def truth(self) -> bool:
        """Whether the verifier can tell which facts of a prompt a picture shows."""
        return plan.has_truth(self.config)

    @property
    def decoder(self) -> Path | None:
        """The folder of a small decoder that some variant trains with, for estimates."""
        found = (v.folders.get("decoder") for v in variants.entries(self.config).values())
        return next((Path(each) for each in found if each), None)


@dataclass(frozen=True)
class Request:
    """What is to be drawn. UserError, when it is made, for what no page may ask for.

    models: one or two, drawn from the same noise; strengths: how much of each one's fine-tuning is
    in its weights, 0 (the base) to 1 (itself) and some way beyond. steps, guidance_scale: None for
    the study's. rounds: of a way other than plain. watch: have judge and guide look at the
    estimates, too.
    """

    prompt: str
    models: tuple[str, ...] = (BASE,)
    strengths: tuple[float, ...] = ()
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    way: str = PLAIN
    rounds: int = 1
    watch: bool = False

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        if not 1 <= len(self.models) <= 2:
            raise UserError("models: one or two can be drawn at once; name as many")
        if self.strengths and len(self.strengths) != len(self.models):
            raise UserError("strengths: one for each model; give as many")
        limits = [
            ("seed", self.seed, 0, SEED, int),
            ("steps", self.steps, 1, STEPS, int),
            ("guidance_scale", self.guidance_scale, 1, SCALE, float),
            ("rounds", self.rounds, 1, ROUNDS, int),
            *(("strength", each, 0, STRENGTH, float) for each in self.strengths),
        ]
        for name, value, low, high, kind in limits:
            if value is not None and not _within(value, low, high, kind):
                raise UserError(f"{name}: {value!r} is not in {low} to {high}; choose one that is")

    def checked(self, study: Study) -> Request:
        """Itself; UserError for a model or a way that the study does not have."""
        for name in self.models:
            if name not in study.models:
                known = ", ".join(study.models)
                raise UserError(f"model: {name[:60]!r} is none of the study's; one of {known}")
        if self.way not in study.ways:
            known = ", ".join(study.ways)
            raise UserError(f"way: {self.way[:60]!r} is not known; one of {known}")
        for name, strength in zip(self.models, self.strengths, strict=False):
            if strength != 1 and not study.mixes(name):
                raise UserError(f"strength: {name} is not fine-tuned; leave it at 1")
        return self

    def sampling(self, study: Study) -> sections.Sampling:
        """How it is drawn."""
        own = {"steps": self.steps, "guidance_scale": self.guidance_scale}
        given = {name: value for name, value in own.items() if value is not None}
        return study.sampling.model_copy(update=given)


def check_prompt(prompt: object) -> None:
    """UserError for a prompt that is none, too long, or has characters that no text has."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError("prompt: is empty; say what to draw")
    if len(prompt) > LONGEST:
        raise UserError(f"prompt: {len(prompt)} characters; write at most {LONGEST}")
    if not prompt.isprintable():
        raise UserError("prompt: has line breaks or control characters; write one line")


def _within(value: Any, low: float, high: float, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return low <= value <= high and (kind is float or value == int(value))
