"""The workflow taken from elsewhere: as a module of another workflow, and into another folder."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.pipeline import MADE, ROOT, Checkout
from tests.reduced import rows
from vlg.files import sha256

MODULE = """\
configfile: "config.yaml"

module vlg:
    snakefile:
        {where}
    config:
        config["faithful"]

use rule * from vlg as vlg_*
"""
OWN = """\
rule count:
    input:
        "results/reduced/prompts.tsv",
    output:
        "count.txt",
    shell:
        "wc -l < {{input}} > {{output}}"

"""


def another(folder, where, before=""):
    """A workflow of somebody else in `folder`, which takes ours with the reduced study's config."""
    folder.mkdir()
    reduced = (ROOT / "tests/reduced.yaml").read_text(encoding="utf-8")
    lines = "".join(f"  {line}\n" for line in reduced.splitlines())
    (folder / "config.yaml").write_text(f"faithful:\n{lines}", encoding="utf-8")
    config, _, use = MODULE.format(where=where).partition("\n")
    text = f"{config}\n\n{before.format()}{use}"
    (folder / "Snakefile").write_text(text, encoding="utf-8")
    return Checkout.at(folder)


def snakemake(there, *words, **variables):
    """Run Snakemake as somebody there types it."""
    return there.run(sys.executable, "-m", "snakemake", "--cores", 2, *words, **variables)


def rules_of(done):
    """{rule: number of jobs} of a dry run."""
    assert done.code == 0, done.output
    table = done.output.partition("Job stats:")[2].partition("total")[0]
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


@pytest.fixture
def module(tmp_path):
    """A workflow whose only own rule comes before ours, which are not in its folder."""
    return another(tmp_path / "its own place", repr(str(ROOT / "Snakefile")), OWN)


def test_a_module_plans_what_the_workflow_plans(module, checkout):
    """The same jobs under other names; and the other workflow's first rule stays its default."""
    words = ("--dry-run", "--configfile", "tests/reduced.yaml")
    ours = rules_of(snakemake(checkout, "--forceall", *words))
    theirs = rules_of(snakemake(module, "--dry-run", "vlg_all"))
    assert theirs == {f"vlg_{name}": number for name, number in ours.items()}
    assert rules_of(snakemake(module, "--dry-run")) == {"vlg_prompts": 1, "count": 1}


def test_a_module_alone_has_the_workflow_as_its_default(tmp_path):
    there = another(tmp_path / "alone", repr(str(ROOT / "Snakefile")))
    assert rules_of(snakemake(there, "--dry-run"))["vlg_all"] == 1


def test_jobs_of_a_module_run(module):
    """A script is found, the other's rule reads what it wrote, and nothing runs twice."""
    wanted = ("count.txt", "results/reduced/dataset/manifest.json")
    done = snakemake(module, *wanted)
    assert done.code == 0, done.output
    rows = (module.root / "results/reduced/prompts.tsv").read_text().splitlines()
    assert int((module.root / "count.txt").read_text()) == len(rows) == 11
    again = snakemake(module, "--dry-run", *wanted)
    assert again.code == 0 and "Nothing to be done" in again.output, again.output


def test_a_mistake_in_a_modules_config_is_one_line(module):
    config = module.root / "config.yaml"
    config.write_text(config.read_text().replace("rounds: 2", "rounds: none"))
    snakemake(module, "--dry-run").refused("refine.rounds")


def test_a_folder_elsewhere(tmp_path):
    """`--directory` takes everything that is made; the config is named."""
    here, there = tmp_path / "here", tmp_path / "the study"
    here.mkdir()
    words = ["results/reduced/prompts.tsv", "results/reduced/dataset/manifest.json"]
    words += ["--snakefile", ROOT / "Snakefile", "--directory", there]
    done = snakemake(Checkout.at(here), *words, "--configfile", ROOT / "tests/reduced.yaml")
    assert done.code == 0, done.output
    assert (there / "results/reduced/dataset/manifest.json").is_file()
    assert not list(here.iterdir())


def test_a_repository_that_is_not_on_this_machine_is_refused_in_one_line(tmp_path):
    """Snakemake reads rules from afar, but a script's command line must be a file here."""
    if not shutil.which("git"):
        pytest.skip("no git")
    host = tmp_path / "host/someone"
    copy = host / "study"
    ignored = shutil.ignore_patterns(*MADE, "resources", "tests", "docs", "bench")
    shutil.copytree(ROOT, copy, ignore=ignored)
    who = ["-c", "user.name=test", "-c", "user.email=test", "-c", "commit.gpgsign=false"]
    for words in (["init", "-qb", "main"], ["add", "-A"], [*who, "commit", "-qm", "copy"]):
        subprocess.run(["git", *words], cwd=copy, check=True, capture_output=True)
    there = another(tmp_path / "there", 'github("someone/study", path="Snakefile", branch="main")')
    instead = {"KEY": f"url.{host.parent.as_uri()}/.insteadOf", "VALUE": "https://github.com/"}
    settings = {f"GIT_CONFIG_{name}_0": value for name, value in instead.items()}
    settings |= {"GIT_CONFIG_COUNT": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = snakemake(there, "--dry-run", GITHUB_TOKEN="", **settings)
    done.refused("clone", "Snakefile")


def untimed(path):
    return [row | {"seconds": ""} for row in rows(path)]


@pytest.mark.slow
def test_a_whole_study_as_a_module(tmp_path, study):
    """The same pictures, weights and tables as the workflow makes by itself, and its report."""
    there = another(tmp_path / "its own place", repr(str(ROOT / "Snakefile")))
    done = snakemake(there)
    assert done.code == 0, done.output
    made, ours = (place.root / "results/reduced" for place in (there, study))
    kinds = ("models/*/*/*.safetensors", "images/**/*.png", "refined/**/*.png")
    names = [file.relative_to(ours) for kind in kinds for file in sorted(ours.glob(kind))]
    assert len(names) > 100
    for name in names:
        assert sha256(made / name) == sha256(ours / name), name
    scores = [file.relative_to(ours) for file in sorted(ours.glob("scores/**/*.csv"))]
    assert scores
    for name in scores:  # but for what drawing took
        assert untimed(made / name) == untimed(ours / name), name
    again = snakemake(there, "--dry-run")
    assert again.code == 0 and "Nothing to be done" in again.output, again.output
    for place in (there, study):
        report = place.run(
            *(sys.executable, "-m", "snakemake", "--report", "report.zip"),
            *(["--configfile", "tests/reduced.yaml"] if place is study else []),
        )
        assert report.code == 0, report.output
    shown = [
        {os.path.basename(name) for name in zipfile.ZipFile(place.root / "report.zip").namelist()}
        for place in (there, study)
    ]
    assert shown[0] == shown[1] and {"finetune.html", "finetune.svg"} <= shown[0]
