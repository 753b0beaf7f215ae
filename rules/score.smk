# In: pictures, judge, guide. Out: scores/images/<model>/<stage>.csv, scores/refined/<model>/<arm>.csv,
# scores/samples/<model>.csv.


def plain_score_files():
    """The score files of plain pictures."""
    return [f"{OUT}/scores/images/{m}/{stage}.csv" for m in RUNS for stage in stages(m)]


def score_files():
    """All score files of the study."""
    return [
        *plain_score_files(),
        *(f"{OUT}/scores/refined/{m}/{arm}.csv" for m in REFINED for arm in ARMS),
    ]


SCORE = (
    python("score") + " --settings {params.settings:q} --pictures {params.pictures:q}"
    " --judge {params.judge:q} --guide {params.guide:q} --root {params.root:q} --out {output:q}"
    " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
)
# The verifier reads pictures of the shapes world; no other world has a ground truth.
TRUTH = CONFIG["models"]["base"] in EMBEDDED


rule score:
    """Score a model's pictures, a row each."""
    input:
        pictures=lambda wildcards: images(wildcards.model, wildcards.stage),
        judge=f"{OUT}/models/judge/manifest.json",
        guide=f"{OUT}/models/guide/manifest.json",
    output:
        f"{OUT}/scores/images/{{model}}/{{stage}}.csv",
    log:
        f"{OUT}/logs/score/images/{{model}}-{{stage}}.log",
    conda:
        "../envs/models.yaml"
    threads: need("score", "threads")
    resources:
        mem_mb=memory("score"),
        runtime=need("score", "runtime"),
        gpu=GPUS,
        device=DEVICE,
        batch=CONFIG["score"]["batch_size"],
    params:
        settings=settings({"truth": TRUTH, "precision": CONFIG["score"]["precision"]}),
        code=code("score"),
        pictures=lambda wildcards, input: folders(input.pictures),
        judge=subpath(input.judge, parent=True),
        guide=subpath(input.guide, parent=True),
        root=lambda wildcards: OUT,
    shell:
        SCORE


use rule score as score_refined with:
    input:
        pictures=lambda wildcards: refined(wildcards.model, wildcards.arm),
        judge=f"{OUT}/models/judge/manifest.json",
        guide=f"{OUT}/models/guide/manifest.json",
    output:
        f"{OUT}/scores/refined/{{model}}/{{arm}}.csv",
    log:
        f"{OUT}/logs/score/refined/{{model}}-{{arm}}.log",


use rule score as score_samples with:
    input:
        pictures=[f"{OUT}/training/{{model}}/samples/metadata.jsonl"],
        judge=f"{OUT}/models/judge/manifest.json",
        guide=f"{OUT}/models/guide/manifest.json",
    output:
        f"{OUT}/scores/samples/{{model}}.csv",
    log:
        f"{OUT}/logs/score/samples/{{model}}.log",
