# In: pictures, judge, guide. Out: scores/images/<model>/<stage>.csv, scores/refined/<model>/<arm>.csv,
# scores/samples/<model>.csv, scores/references.csv.


include: "functions/score.smk"


rule score:
    """Score a model's pictures, a row each."""
    input:
        pictures=lambda wildcards: images(wildcards.model, wildcards.stage),
        judge=LAYOUT.model("judge"),
        guide=GUIDED,
        bundles=lambda wildcards: scored_bundles(images(wildcards.model, wildcards.stage)),
    output:
        LAYOUT.image_scores("{model}", "{stage}"),
        rest(
            LAYOUT.log("score", "images", "{model}-{stage}"),
            LAYOUT.image_scores("{model}", "{stage}"),
        ),
    log:
        LAYOUT.log("score", "images", "{model}-{stage}"),
    wildcard_constraints:
        model=one_of([*RUNS, *SWEPT, *SETS]),
    conda:
        "../envs/models.yaml"
    threads: threads_of("score")
    resources:
        **needs("score", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["score"]["batch_size"],
    params:
        settings=score_settings(),
        code=code("score", (plugins.KINDS, judge_kind.OWN), *(guide_code() if HAS_BASE else [])),
        pictures=lambda wildcards, input: folders(input.pictures),
        judge=subpath(input.judge, parent=True),
        guide=score_guide,
        root=lambda wildcards: here(OUT),
    shell:
        SCORE


use rule score as score_refined with:
    input:
        pictures=lambda wildcards: refined(wildcards.model, wildcards.arm),
        judge=LAYOUT.model("judge"),
        guide=GUIDED,
        bundles=lambda wildcards: scored_bundles(refined(wildcards.model, wildcards.arm)),
    output:
        LAYOUT.refined_scores("{model}", "{arm}"),
        rest(
            LAYOUT.log("score", "refined", "{model}-{arm}"),
            LAYOUT.refined_scores("{model}", "{arm}"),
        ),
    log:
        LAYOUT.log("score", "refined", "{model}-{arm}"),


use rule score as score_samples with:
    input:
        pictures=[LAYOUT.samples("{model}")],
        judge=LAYOUT.model("judge"),
        guide=GUIDED,
        bundles=scored_bundles([LAYOUT.training("{model}")]),
    output:
        LAYOUT.sample_scores("{model}"),
        rest(LAYOUT.log("score", "samples", "{model}"), LAYOUT.sample_scores("{model}")),
    log:
        LAYOUT.log("score", "samples", "{model}"),


use rule score as score_references with:
    input:
        pictures=[LAYOUT.reference(reference) for reference in REFERENCES],
        judge=LAYOUT.model("judge"),
        guide=GUIDED,
        bundles=scored_bundles([LAYOUT.reference(reference) for reference in REFERENCES]),
    output:
        LAYOUT.reference_scores,
        rest(LAYOUT.log("score", "references"), LAYOUT.reference_scores),
    log:
        LAYOUT.log("score", "references"),
