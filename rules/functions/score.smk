# What rules/score.smk asks of the config and of the wildcards of a job.


from vlg.judge import kind as judge_kind


def plain_score_files():
    """The score files of plain pictures."""
    return [LAYOUT.image_scores(model, stage) for model in RUNS for stage in stages(model)]


def score_files():
    """All score files of the study."""
    return [*plain_score_files(), *(LAYOUT.refined_scores(*each) for each in REFINED)]


def scored_bundles(pictures):
    """Pictures, judge and guide, where they come as bundles."""
    return bundles(*pictures, LAYOUT.model("judge"), LAYOUT.model("guide"))


SCORE = writing_one(
    python("score") + " --settings {params.settings:q} --pictures {params.pictures:q}"
    " --judge {params.judge:q} --guide {params.guide:q} --root {params.root:q} --out {output:q}"
    " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
)
