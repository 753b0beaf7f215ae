"""A method is one file: what it brings is trained, logged and saved, and what an edit reaches."""

import csv
import hashlib
import shutil
import sys
from pathlib import Path

import pytest
from pydantic import Field

from tests import tiny
from vlg import plugins
from vlg.config import sections
from vlg.config.keys import INPUT
from vlg.train import loop, methods
from vlg.workflow.codehash import code_hash

SCRIPTS = Path(__file__).parents[1] / "scripts"


def rows(out, name, model):
    with open(out / "training" / model / name) as file:
        return list(csv.DictReader(file))


def weights(out, model):
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in ("models", "training")
        for path in sorted((out / kind / model).rglob("*.safetensors"))
    }


OWN = '''
"""A method with a state of its own: it pulls the prediction towards a slow copy of the network."""

import torch

from pydantic import Field

from vlg.config import sections
from vlg.train.method import Method, Term

NEEDS = ("latents",)


class Settings(sections.Training):
    pull: float = Field(0.5, ge=0, description="Weight of the pull.")


class Pull(Method):
    terms_and_logs = {"denoising": (), "pull": ("distance", "late_distance")}

    def prepare(self, net, folders, ledger):
        self.slow = self.family.network().requires_grad_(False)

    def terms(self, net, batch):
        seen = self.predict(net, batch)
        z_t, t = seen.z_t, seen.t
        with torch.no_grad():
            slow = self.family.predict(self.slow, z_t, t, batch.condition(self.family.device))
        distance = (seen.predicted - slow).square().mean(dim=(1, 2, 3))
        logs = {"distance": distance.detach(), "late_distance": distance.detach()[t > 500]}
        return {"denoising": self.denoising(seen), "pull": Term(distance, self.settings.pull, logs)}

    def after(self, net, step):
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 0.1)

    def state(self):
        return dict(self.slow.named_parameters())

    def load_state(self, state):
        self.slow.load_state_dict(state)
'''


@pytest.fixture
def pull(tmp_path, monkeypatch):
    """A further file of the room of methods."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "pull.py").write_text(OWN)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "room")])
    file = plugins.file
    own = tmp_path / "room" / "pull.py"
    monkeypatch.setattr(
        plugins, "file", lambda room, name: own if name == "pull" else file(room, name)
    )
    monkeypatch.setattr(loop, "code_hash", lambda *files: "code")
    yield
    sys.modules.pop("vlg.train.methods.pull", None)


def test_a_method_is_one_file_and_its_state_is_saved(pull, tmp_path):
    tiny.finetune(tmp_path / "whole", "pull", step=5, evaluate_every=5)
    tiny.finetune(tmp_path / "chained", "pull", step=2, evaluate_every=5)
    tiny.finetune(tmp_path / "chained", "pull", start=2, step=5, evaluate_every=5)
    one, two = (weights(tmp_path / out, "pull-5") for out in ("whole", "chained"))
    assert one == two and "training/pull-5/state/method.safetensors" in one
    first, *_, last = rows(tmp_path / "whole", "log.csv", "pull-5")
    assert list(first)[:6] == ["step", "loss", "denoising", "pull", "distance", "late_distance"]
    assert float(first["pull"]) == 0 < float(last["pull"])
    assert last["distance"] == last["pull"]
    held_out = rows(tmp_path / "whole", "held_out.csv", "pull-5")
    assert list(held_out[0]) == [
        "step", "denoising", "pull", "distance", "late_distance", "grad_denoising", "grad_pull",
    ]  # fmt: skip
    loss = float(last["denoising"]) + 0.5 * float(last["pull"])
    assert float(last["loss"]) == pytest.approx(loss, rel=1e-4)


def test_a_folder_among_a_methods_keys_is_worked_with(tmp_path):
    """As the settings name it, or as it is given, which is where the rule's input lies."""

    class Settings(sections.Training):
        teacher: str | None = Field(None, json_schema_extra=INPUT, description="A model.")

    base = {"base": tmp_path / "base", "cache": tmp_path / "cache", "data": tmp_path / "data"}
    settings = Settings(step=1, teacher="theirs")
    kept = {name: base[name] for name in ("base", "cache")}
    assert loop.needed("normal", settings, base) == kept | {"teacher": Path("theirs")}
    given = base | {"teacher": tmp_path / "teacher"}
    assert loop.needed("normal", settings, given) == kept | {"teacher": given["teacher"]}
    assert loop.needed("normal", Settings(step=1), base) == kept
    assert "teacher" not in settings.handed_on(), "an input is no setting"


# ------------------------------------------------------------------------ what an edit reaches


@pytest.fixture
def codes(tmp_path):
    """A function: the code hashes of encoding and training after edits {file: text added}."""
    trees = iter(range(9))

    def codes(edits):
        scripts = tmp_path / str(next(trees)) / "scripts"
        shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
        for file, text in edits.items():
            with open(scripts / "vlg" / file, "a+", encoding="utf-8") as out:
                out.write(text)
        sd, watch = scripts / "vlg/models/families/sd.py", scripts / "vlg/train/watch.py"
        normal, embed = (scripts / f"vlg/train/methods/{name}.py" for name in ("normal", "embed"))
        return {
            "encode": code_hash(scripts / "encode.py", sd),
            "encode_guide": code_hash(scripts / "encode_guide.py"),
            "normal": code_hash(scripts / "finetune.py", normal, sd),
            "watched": code_hash(scripts / "finetune.py", normal, sd, watch),
            "embed": code_hash(scripts / "finetune.py", embed, sd),
        }

    return codes


TRAINED = {"normal", "watched", "embed"}


@pytest.mark.parametrize(
    ("edited", "reached"),
    [
        ("train/methods/embed.py", {"embed"}),
        ("train/methods/normal.py", {"normal", "watched"}),
        ("train/methods/new.py", set()),
        ("train/watch.py", {"embed", "watched"}),
        ("train/decoder.py", {"embed"}),
        ("train/reward.py", set()),
        ("train/rounds.py", set()),
        ("train/stop.py", set()),
        ("models/families/new.py", set()),
        ("models/families/sd.py", {"encode", *TRAINED}),
        ("train/loop.py", TRAINED),
        ("data/embedded.py", {"encode_guide"}),
        ("data/encoded.py", {"encode"}),
        ("data/source.py", TRAINED),
        ("sample/arms/refine.py", set()),
        ("judge/kinds/clip.py", set()),
    ],
)
def test_an_edit_retrains_what_it_changes_and_nothing_else(codes, edited, reached):
    before, after = codes({}), codes({edited: "\nEDITED = 1\n"})
    assert {name for name in before if before[name] != after[name]} == reached


def test_an_edit_of_the_guide_retrains_nothing_that_does_not_look_at_it(codes):
    """As training and as encoding; drawing samples knows the guide from the arms' side alone."""
    before, after = codes({}), codes({"models/guide.py": "\nEDITED = 1\n"})
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"encode_guide", "embed", "watched"}
