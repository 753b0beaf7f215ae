"""What is found by its name: a file that is there, its literals, its one class."""

import os
import sys

import pytest

from vlg import plugins
from vlg.errors import UserError
from vlg.sample import arms

CLASS = """
import dataclasses

from vlg.config import sections
from vlg.sample.arm import Arm

NEEDS = ("guide",)
WEIGHT = 2 * 3


class Settings(sections.ArmKeys):
    pass


@dataclasses.dataclass
class Helper:
    number: int


class Own(Arm):
    def draw(self, sampler, guide, before): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes a further file of the room of arms, called `own`."""
    monkeypatch.setattr(arms, "__path__", [*arms.__path__, str(tmp_path)])
    monkeypatch.setattr(plugins, "folder", lambda room: tmp_path)
    yield lambda text: (tmp_path / "own.py").write_text(text)
    sys.modules.pop("vlg.sample.arms.own", None)


def test_a_file_that_is_there_is_known(own, tmp_path):
    own(CLASS)
    (tmp_path / "_private.py").write_text("")
    assert plugins.names(plugins.ARMS) == ["own"]
    assert plugins.constant(plugins.ARMS, "own", "NEEDS") == ("guide",)
    assert "vlg.sample.arms.own" not in sys.modules, "nothing was imported"
    with pytest.raises(UserError, match=r"^no arm 'owm'; did you mean own\?$"):
        plugins.file(plugins.ARMS, "owm")


def test_a_literal_is_that_of_the_file_as_it_is_now(own, tmp_path):
    own(CLASS)
    assert plugins.constant(plugins.ARMS, "own", "WEIGHT", "no literal") == "no literal"
    own(CLASS.replace('("guide",)', "()"))
    os.utime(tmp_path / "own.py", (1, 1))
    assert plugins.constant(plugins.ARMS, "own", "NEEDS") == ()


def test_its_class_is_found_whatever_stands_beside_it(own):
    own(CLASS)
    assert plugins.own(plugins.ARMS, "own").__name__ == "Own"


@pytest.mark.parametrize("number", [0, 2])
def test_a_file_must_hold_one_class_of_its_kind(own, number):
    text, _, last = CLASS.partition("class Own(Arm)")
    own(text + "".join(f"class Own{n}(Arm){last}\n\n" for n in range(number)))
    with pytest.raises(UserError, match=f"own.py: holds {number} classes of its kind; it must"):
        plugins.own(plugins.ARMS, "own")
