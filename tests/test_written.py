"""A config says what it looks like it says, whatever Snakemake and YAML make of it."""

import pytest
import yaml
from snakemake.cli import parse_config

from tests.pipeline import ROOT, Checkout
from vlg.config import written
from vlg.config.load import load
from vlg.errors import UserError


@pytest.mark.parametrize(
    "text", ["2024", "0815", "1e3", "1_000", "True", "true", "null", "nan", "2026-11-28", "007"]
)
def test_a_study_has_the_name_that_was_typed(text):
    given = parse_config([f"study={text}", "device=cpu"])
    found = written.named(given, ["study=first", f"study={text}", "device=cpu"])
    assert load(found, ROOT)["study"] == text


def test_a_name_that_is_text_and_one_from_elsewhere_stay():
    assert written.named({"study": "mine"}, ["study=mine"])["study"] == "mine"
    assert written.named({"study": "other"}, ["study=0815"])["study"] == "other"
    assert written.named({"study": 815}, "study=0815")["study"] == 815
    assert written.named({}, ["study=0815"]) == {}


def test_the_name_reaches_paths(tmp_path):
    done = Checkout(tmp_path / "copy").snakemake("-n", study="0815")
    assert "results/0815/" in done.output and "results/815/" not in done.output


# {a config file: what the line says; None where nothing is wrong}
FILES = {
    "study: 0715": "line 1: 0715 is 461 to YAML; write a name in quotes",
    "study: 1_000": "line 1: 1_000 is 1000 to YAML",
    "study: 12:30": "line 1: 12:30 is 750 to YAML",
    "finetune:\n  steps: [0100, 0200]": "line 2: 0100 is 64 to YAML; write 64, or without its zero",
    "seeds: {study: [0, 010]}": "line 1: 010 is 8 to YAML",
    "resources: {stages: {score: {runtime: 1:30}}}": "line 1: 1:30 is 90 to YAML",
    "models: {base: a}\nmodels: {judge: b}": "lines 1 and 2 both say models, of which YAML takes",
    "finetune:\n  variants:\n    a: {}\n    b: {}\n    a: {seed: 1}": "lines 3 and 5 both say a",
    'study: "0715"': None,
    "study: 2024": None,
    "finetune: {steps: [100, 1_000], learning_rate: 1e-4, guide_scale: 0.5, seed: 0}": None,
    "prompts: {source: 010.tsv, category: ['010']}": None,
    "other: {a: 010}\nother: 2": None,
    "base: &b {steps: [1]}\nfinetune: {<<: *b, <<: *b}": None,
    "[": None,
    "&a [*a]": None,
    "finetune: &a {variants: *a}": None,
    '{"study": "x", "seeds": {"study": [0]}}': None,
    "": None,
}


@pytest.mark.parametrize("text", FILES)
def test_what_yaml_reads_otherwise_is_told_with_its_line(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    if FILES[text] is None:
        return written.check_files([tmp_path / "mine.yaml", tmp_path / "none.yaml"])
    with pytest.raises(UserError, match="; ") as error:
        written.check_files([tmp_path / "mine.yaml"])
    line = str(error.value)
    assert line.startswith(f"{tmp_path}/mine.yaml: ") and FILES[text] in line


def test_the_configs_here_say_what_they_look_like():
    files = [ROOT / "config.yaml", *ROOT.glob("config/*.yaml"), ROOT / "tests/reduced.yaml"]
    assert all(isinstance(yaml.safe_load(path.read_text()), dict) for path in files)
    written.check_files(files)


def test_the_command_line_refuses_such_a_file(tmp_path):
    checkout = Checkout(tmp_path / "copy")
    (checkout.root / "mine.yaml").write_text("seeds: {study: [010]}\n")
    checkout.snakemake("-n", overlays=["mine.yaml"]).refused("mine.yaml: line 1: 010 is 8 to YAML")
