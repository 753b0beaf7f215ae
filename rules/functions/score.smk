# What rules/score.smk asks of the config and of the wildcards of a job.


from vlg.judge import kind as judge_kind


def score_settings():
    """How the study's own scores are taken."""
    values = {"truth": plan.has_truth(CONFIG), "precision": CONFIG["score"]["precision"]}
    return settings(values)


def plain_score_files():
    """The score files of plain pictures."""
    drawn = [LAYOUT.image_scores(model, stage) for model in RUNS for stage in stages(model)]
    return [*drawn, *(LAYOUT.image_scores(name, "final") for name in SETS)]


def score_files():
    """All score files of the study."""
    refined = [LAYOUT.refined_scores(*each) for each in REFINED]
    return [*plain_score_files(), *refined, *reference_score_files()]


def reference_score_files():
    """The score file of the references, if there are any."""
    return [LAYOUT.reference_scores] if REFERENCES else []


GUIDED = [LAYOUT.model("guide")] if HAS_BASE else []  # the guide whose scores stand beside


def score_guide(wildcards, input):
    """The guide, if there is one, as words of a command line."""
    return ["--guide", *folders(input.guide)] if input.guide else []


def scored_bundles(pictures):
    """Pictures, judge and guide, where they come as bundles."""
    return bundles(*pictures, LAYOUT.model("judge"), *GUIDED)


SCORE = writing_one(
    python("score") + " --settings {params.settings:q} --pictures {params.pictures:q}"
    " --judge {params.judge:q} {params.guide:q} --root {params.root:q} --out {output:q}"
    " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
)
