"""The jobs of each shipped config, rule by rule.

That no rule but `fetch` needs the network, tests/test_sd15.py shows by running them without one.
"""

import re

import pytest

EACH = {  # jobs that every study has once
    "dataset": 1,
    "development": 1,
    "encode": 1,
    "encode_guide": 1,
    "figures": 1,
    "gallery": 1,
    "hard_prompts": 1,
    "model": 3,
    "pages": 1,
    "prompts": 1,
    "provenance": 1,
    "sheets": 1,
    "tables": 1,
}
JOBS = {
    # two variants at three step counts; one shard a model and stage; two arms
    "config.yaml": {"finetune": 6, "generate": 8, "refine": 2, "score": 8, "score_refined": 2},
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
    assert found == {**EACH, **JOBS[config], "card": JOBS[config]["finetune"], "all": 1}
