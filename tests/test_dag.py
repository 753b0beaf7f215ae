"""The jobs of each shipped config, rule by rule.

That no rule but `fetch` needs the network, tests/test_sd15.py shows by running them without one.
"""

import re

import pytest

from tests.pipeline import Checkout

EACH = {  # jobs that every study has once
    "dataset": 1,
    "development": 1,
    "encode": 1,
    "encode_guide": 1,
    "figure": 9,
    "findings": 1,
    "gallery": 1,
    "hard_prompts": 1,
    "model": 3,
    "prompts": 1,
    "provenance": 1,
    "reference": 3,
    "score_references": 1,
    "sheets": 1,
    "table": 13,
}
JOBS = {
    # two variants at three step counts; one shard a model and stage; two arms
    "config.yaml": {"finetune": 6, "generate": 8, "refine": 2, "score": 8, "score_refined": 2},
    # five trainings of each variant; base and those of one checkpoint refined by three arms
    "config/shapes-full.yaml": {
        "diversity": 1,
        "figure": 10,
        "table": 14,
        "finetune": 30,
        "generate": 32,
        "judge": 62,
        "refine": 18,
        "score": 32,
        "score_refined": 18,
    },
    # base: 2 shards of the pool and 1 of hard prompts; four more models of 2; two arms of 2
    "tests/reduced.yaml": {
        "finetune": 4,
        "generate": 11,
        "refine": 4,
        "score": 6,
        "score_refined": 2,
    },
    # base: 1632 prompts x 2 seeds in shards of 200 make 17, and 1 of hard prompts; six more models
    # draw (100 + 50) x 2 + 50 x 2 = 400 pictures, 2 shards
    "config/sd15.yaml": {
        "fetch": 5,
        "reference": 1,  # of prompts whose truth is not known
        "finetune": 6,
        "generate": 30,
        "refine": 2,
        "score": 8,
        "score_refined": 2,
    },
}


@pytest.mark.parametrize("config", JOBS)
def test_jobs_by_rule(checkout, config):
    """Nothing is downloaded to find out, and nothing has to be there."""
    words = ("snakemake", "--dry-run", "--forceall", "--configfile", config)
    done = checkout.run(*words, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.code == 0, done.output
    table = done.output.partition("Job stats:")[2].partition("total")[0]
    found = {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    assert found == {**EACH, "card": JOBS[config]["finetune"], **JOBS[config], "all": 1}


def test_every_job_says_what_it_needs(checkout):
    """As a cluster must be told; the config's general numbers, and its exceptions by rule."""
    resources = (
        "resources={mem_mb: 5000, runtime: 90, stages: {finetune: {threads: 3, runtime: 600}}}"
    )
    words = ("snakemake", "--dry-run", "--forceall", "--configfile", "tests/reduced.yaml")
    machine = ("--cores", 8, "--resources", "gpu=4", "--config")
    done = checkout.run(*words, *machine, resources, "device=cuda", "finetune={processes: 2}")
    assert done.code == 0, done.output
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?: .*\n)+)", done.output, re.M)
    needs = {}
    for name, text in jobs:
        found = {key: int(n) for key, n in re.findall(r"(mem_mb|runtime|gpu)=(\d+)", text)}
        threads = re.search(r"threads: (\d+)", text)
        needs[name] = (*found.values(), int(threads[1]) if threads else 1)
        assert name == "all" or set(found) == {"mem_mb", "runtime", "gpu"}, text
    assert needs["generate"] == needs["score"] == needs["encode"] == (90, 1, 5000, 1)
    assert needs["finetune"] == (600, 2, 10000, 6), "a device, and memory, for each process"
    assert needs["table"] == needs["sheets"] == (60, 0, 2000, 1)


def test_a_table_and_a_figure_of_ones_own_are_made_of_what_they_need(tmp_path):
    """By a file each, and the figure from its own table alone."""
    tree = Checkout(tmp_path / "tree")
    for path, needs in (("analysis/tables", "hard"), ("report/figures", "mine")):
        file = tree.root / f"scripts/vlg/{path}/mine.py"
        file.write_text(f'"""Mine."""\n\nNEEDS = ("{needs}",)\n', encoding="utf-8")
    done = tree.snakemake("--dry-run", "--forceall", "--printshellcmds")
    assert done.code == 0, done.output
    results = "results/reduced"
    inputs = {
        (rule, name): set(files.split(", "))
        for rule, files, name in re.findall(
            r"^rule (table|figure):\n +input: (.*)\n.*\n +log: \S+/(\w+)\.log$", done.output, re.M
        )
    }
    assert inputs["figure", "mine"] == {f"{results}/tables/mine.csv"}
    own = {file for file in inputs["table", "mine"] if file.startswith(results)}
    assert own == {f"{results}/hard_prompts.tsv"}
    assert inputs["figure", "refinement"] == {f"{results}/tables/refinement.csv"}
    plain = {file for file in inputs["table", "by_split"] if file.startswith(results)}
    assert plain and not any("refined" in file or "training" in file for file in plain)


def test_an_evaluation_reads_no_training_data_and_has_no_controls(checkout):
    """Controls that draw nothing have no table, and what is not read is not fetched."""
    done = checkout.snakemake(
        *("evaluate", "--dry-run"),
        overlays=["config/evaluate.yaml"],
        models="{compare: {late: shapes-early, half: shapes-middle}}",
        dataset="{source: 'hub:owner/pictures'}",
        positive_controls="[best_of_n]",
    )
    assert done.code == 0, done.output
    assert "tables/compare.csv" in done.output
    assert "tables/controls.csv" not in done.output and "rule fetch" not in done.output


def test_a_judge_with_words_in_braces_ratings_and_pictures_are_read(tmp_path):
    """`{prompt}` of a template is no wildcard of a rule; ratings make two tables; of pictures what
    is wrong is told before any job."""
    tree = Checkout(tmp_path / "tree")
    (tree.root / "ratings.csv").write_text("rater,model,id,score\n")
    judges = 'judges={"mine": {"kind": "vqa", "source": "hub:a/b", "template": "Is {prompt}?"}}'
    targets = ("all", "results/reduced/judges/selftest.csv")
    done = tree.snakemake(*targets, "--dry-run", "--config", judges, "ratings=ratings.csv")
    assert done.code == 0, done.output
    tables = set(re.findall(r"tables/(\w+)\.csv", done.output))
    assert {"ratings", "calibration"} <= tables
    bench = "prompts={source: genai_bench, pool: null}"
    done = tree.snakemake(*targets[:1], "--dry-run", "--config", bench, "ratings=prompts")
    assert done.code == 0 and "tables/calibration.csv" in done.output, done.output
    assert "downloads/benchmark/genai_image.json" in done.output
    done = tree.snakemake("--dry-run", "--config", "ratings=prompts")
    assert "config: ratings: shapes has none; name a file, or take the prompts of genai_bench" in (
        done.output
    )
    (tree.root / "ratings.csv").write_text("rater,model,id,score\nann,nobody,p0000,1\n")
    done = tree.snakemake("--dry-run", "--config", "ratings=ratings.csv")
    assert (
        done.code and "ratings.csv: line 2: unknown model 'nobody'; there are base" in done.output
    )
    folder = tree.root / "made"
    folder.mkdir()
    (folder / "p0000_0.png").write_text("no picture")
    own = "pictures={mine: {source: made, pattern: '{id}_{seed}.png'}}"
    broken = "made/p0000_0.png: a picture that is broken"
    done = tree.snakemake("--dry-run", "--config", own)
    assert "error: config: pictures.mine: " in done.output and broken in done.output
    done = tree.snakemake("--dry-run", "--mode", "subprocess", "--config", own)
    assert broken not in done.output  # once a run, and not in each job
    done = tree.snakemake("--dry-run", "--config", "ratings=none.csv")
    assert "config: ratings: no file 'none.csv'" in done.output.replace('"', "'")
