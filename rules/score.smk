# In: pictures, judge, guide. Out: scores/images/<model>/<stage>.csv, scores/refined/<model>/<arm>.csv.

SCORE = (
    "python {SCRIPTS:q}/score.py --settings {params.settings:q} --pictures {params.pictures:q}"
    " --judge {params.judge:q} --guide {params.guide:q} --root {OUT:q} --out {output:q}"
    " --batch-size {params.batch} --device {DEVICE} --threads {threads} --log {log:q}"
)
# The verifier reads pictures of the shapes world; no other world has a ground truth.
TRUTH = CONFIG["models"]["base"] in ("shapes", "shapes-early")


rule score:
    """Score a model's pictures, a row each."""
    input:
        pictures=lambda wildcards: images(wildcards.model, wildcards.stage),
        judge=OUT + "/models/judge/manifest.json",
        guide=OUT + "/models/guide/manifest.json",
    output:
        OUT + "/scores/images/{model}/{stage}.csv",
    log:
        OUT + "/logs/score/images/{model}-{stage}.log",
    conda:
        "../envs/models.yaml"
    threads: THREADS
    resources:
        mem_mb=MEMORY,
    params:
        settings=settings({"truth": TRUTH}),
        code=code("score"),
        pictures=lambda wildcards, input: folders(input.pictures),
        judge=subpath(input.judge, parent=True),
        guide=subpath(input.guide, parent=True),
        batch=CONFIG["score"]["batch_size"],
    shell:
        SCORE


use rule score as score_refined with:
    input:
        pictures=lambda wildcards: refined(wildcards.model, wildcards.arm),
        judge=OUT + "/models/judge/manifest.json",
        guide=OUT + "/models/guide/manifest.json",
    output:
        OUT + "/scores/refined/{model}/{arm}.csv",
    log:
        OUT + "/logs/score/refined/{model}-{arm}.log",
