"""Are the figures drawn whole, the same each time, and also when a study has less to show?"""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import synthetic
from test_tables import make

from tools.strength import ladders
from vlg import plugins
from vlg.errors import UserError
from vlg.report import figure, plots
from vlg.report.figures import refinement, training
from vlg.workflow import codehash

SCRIPT = plugins.PACKAGE.parent / "figure.py"
SETTINGS = {"confidence": 0.95}
# Of the tables that every study has.
NAMES = [
    name for name in plugins.names(plugins.FIGURES) if name not in ("judges", "diversity", "dose")
]


def study(root, **changes):
    made = synthetic.Study(pictures=False, prompts=18, rounds=2, steps=(20, 50), **changes)
    synthetic.write(root, made)
    make(root, made, draws=100)
    return root


def draw(root, training=()):
    return [
        path
        for name in NAMES
        for path in figure.draw(name, root / "tables", training, root / "figures", SETTINGS)
    ]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = study(tmp_path_factory.mktemp("study"))
    draw(root, logs(root))
    return root


def logs(root):
    return sorted((root / "training").glob("*/log.csv"))


def test_every_figure_is_there_in_both_formats(results):
    from PIL import Image

    names = {path.name for path in (results / "figures").iterdir() if path.suffix != ".sha256"}
    assert names == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}
    for name in NAMES:
        ElementTree.parse(results / "figures" / f"{name}.svg")
        with Image.open(results / "figures" / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20, name  # not blank


def test_what_a_figure_draws_is_a_table_or_the_logs():
    known = {*plugins.names(plugins.TABLES), figure.LOGS}
    for name in plugins.names(plugins.FIGURES):
        needs = plugins.constant(plugins.FIGURES, name, "NEEDS")
        assert needs and set(needs) <= known, name


@pytest.mark.parametrize("name", ["finetune", "training"])
def test_figures_are_the_same_each_time_and_the_script_draws_them(results, name, tmp_path):
    """From what a figure needs, and nothing else."""
    needs = plugins.constant(plugins.FIGURES, name, "NEEDS")
    for need in needs:
        if need != figure.LOGS:
            shutil.copy(results / f"tables/{need}.csv", tmp_path)
    arguments = [name, "--settings", json.dumps(SETTINGS), "--tables", tmp_path]
    arguments += ["--out", results / "again"]
    arguments += ["--training", *logs(results)] if figure.LOGS in needs else []
    subprocess.run([sys.executable, SCRIPT, *arguments], check=True, capture_output=True)
    for kind in ("svg", "png"):
        one, other = (results / folder / f"{name}.{kind}" for folder in ("figures", "again"))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_figure_reruns_for_its_own_code_alone(tmp_path):
    """A copy in which one figure is edited and another added; the hash is what the rule compares.

    The code of a table is none of a figure's: a figure is drawn anew when its table changes.
    """
    shutil.copytree(SCRIPT.parent, tmp_path / "scripts")
    room = tmp_path / "scripts/vlg/report/figures"

    def codes():
        codehash.code_hash.cache_clear()
        codehash._module.cache_clear()
        codehash._state.cache_clear()
        script = tmp_path / "scripts/figure.py"
        found = (path for path in room.glob("*.py") if path.stem != "__init__")
        return {path.stem: codehash.code_hash(script, path) for path in found}

    before = codes()
    assert set(before) == set(plugins.names(plugins.FIGURES))
    (room / "mine.py").write_text('"""Mine."""\n\nNEEDS = ("finetune",)\n')
    table = tmp_path / "scripts/vlg/analysis/tables/judges.py"
    for path in (room / "judges.py", table):
        path.write_text(path.read_text() + "\nMORE = 1\n")
    after = codes()
    assert {name for name in before if after[name] != before[name]} == {"judges"}


def test_the_terms_of_a_method_are_drawn_by_their_names():
    import pandas as pd

    log = pd.DataFrame({"step": [1, 2], "denoising": [0.2, 0.1], "preference_loss": [0.7, 0.6]})
    drawn = training.draw(SETTINGS, {"dpo": log.assign(seconds=1.0, loss=0.5)})
    titles = [axis.get_title() for axis in drawn.axes if axis.get_visible()]
    assert titles == ["denoising loss", "preference loss"]


def test_a_study_with_less_to_show_is_drawn(tmp_path):
    root = study(tmp_path, truth=False, arms={}, hard=0, variants=("other", "another", "normal"))
    assert len(draw(root)) == 2 * len(NAMES)


def test_every_arm_of_every_model_is_in_the_legend(tmp_path):
    made = study(tmp_path, refined=("base", "embed-50"))
    drawn = refinement.draw(SETTINGS, figure.read(made / "tables", "refinement"))
    legend = drawn.legends[0]
    told = {text.get_text() for text in legend.get_texts()}
    arms = {"refine", "best of n"}
    assert {text.removesuffix(" (control)") for text in told} == {
        f"{arm}, {model}" for arm in arms for model in ("base", "embed-50")
    }
    drawn.canvas.draw()
    box, page = legend.get_window_extent(), drawn.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and box.y1 <= page.y1


def test_variants_without_a_colour_of_their_own_differ():
    names = ["normal", "one", "two", "embed", "three"]
    styles = [plots.series(name, names) for name in names]
    assert len({style["color"] for style in styles}) == len(names)
    assert len({style["marker"] for style in styles}) == len(names)


def test_chained_logs_are_joined(results):
    chains = figure.read_logs(logs(results)[::-1])
    assert set(chains) == {"normal", "embed"}
    for log in chains.values():
        assert list(log["step"]) == list(range(1, 51))


def test_held_out_losses_stand_beside_the_steps(results, tmp_path):
    folder = tmp_path / "embed-50"
    shutil.copytree(results / "training/embed-50", folder)
    (folder / "held_out.csv").write_text("step,denoising,guide_cosine\n0,0.3,\n50,0.2,0.7\n")
    # The checkpoint before has its own steps only, and they stay.
    both = [folder / "log.csv", results / "training/embed-20/log.csv"]
    whole = figure.read_logs(both)["embed"].set_index("step")
    assert list(whole["denoising"].dropna().index) == list(range(1, 51))
    log = figure.read_logs(both[:1])["embed"].set_index("step")
    assert log["held_out_denoising"].dropna().to_dict() == {0: 0.3, 50: 0.2}
    assert log["held_out_guide_cosine"].dropna().to_dict() == {50: 0.7}
    assert list(log["denoising"].dropna().index) == list(range(21, 51))
    drawn = training.draw(SETTINGS, {"embed": log.reset_index()})
    assert "held-out denoising loss" in [axis.get_title() for axis in drawn.axes]


def test_the_control_of_refinement_is_a_band(results):
    drawn = refinement.draw(SETTINGS, figure.read(results / "tables", "refinement"))
    labels = drawn.axes[0].get_legend_handles_labels()[1]
    assert sorted(labels) == ["best of n (control)", "refine"]
    for axis in drawn.axes:
        assert len(axis.collections) > 0


def test_ladders_of_two_bases_stand_side_by_side(results, tmp_path):
    other = study(tmp_path / "early", seed=1)
    for root in (results, other):
        record = {"config": {"statistics": {"confidence": 0.95}}}
        (root / "provenance.json").write_text(json.dumps(record))
    tool = SCRIPT.parents[1] / "tools/strength.py"
    arguments = [other, results, "--out", tmp_path / "strength"]
    subprocess.run([sys.executable, tool, *arguments], check=True, capture_output=True)
    ElementTree.parse(tmp_path / "strength.svg")
    tables = {root.name: figure.read(root / "tables", "finetune") for root in (other, results)}
    drawn = ladders(tables, SETTINGS)
    titles = [axis.get_title() for axis in drawn.axes]
    assert titles == [f"{n}: {m}" for m in ("ClipScore", "fidelity, %") for n in tables]
    for axis, table in zip(drawn.axes[:2], tables.values(), strict=True):
        assert axis.get_lines()[0].get_ydata()[0] == table["clipscore"].iloc[0]  # base
        assert axis.get_ylim() == drawn.axes[0].get_ylim()


def test_mistakes_are_named(results, tmp_path):
    with pytest.raises(UserError, match="finetune.csv: not found"):
        figure.read(tmp_path, "finetune")
    (tmp_path / "normal-20").mkdir()
    log = tmp_path / "normal-20" / "log.csv"
    log.write_text("loss\n1\n")
    with pytest.raises(UserError, match="no column step"):
        figure.read_logs([log])
    log.write_text("")
    with pytest.raises(UserError, match="damaged"):
        figure.read_logs([log])
