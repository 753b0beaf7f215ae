# In: pictures that were drawn elsewhere, prompts.tsv. Out: images/<set>/final/shard-0/.


include: "functions/pictures.smk"


rule pictures:
    """Take a set of finished pictures into the study."""
    input:
        source=lambda wildcards: given(SETS[wildcards.model]["source"]),
        prompts=LAYOUT.prompts,
    output:
        LAYOUT.images("{model}", "final", 0),
        rest(LAYOUT.log("pictures", "{model}"), LAYOUT.images("{model}", "final", 0)),
    log:
        LAYOUT.log("pictures", "{model}"),
    wildcard_constraints:
        model=one_of(SETS),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("pictures")
    resources:
        **needs("pictures"),
    params:
        settings=set_settings,
        code=code("pictures"),
        out=subpath(output[0], parent=True),
    shell:
        python("pictures") + " --settings {params.settings:q} --source {input.source:q}"
        " --prompts {input.prompts:q} --out {params.out:q} --threads {threads} --log {log:q}"


rule score_pictures:
    """Score a set of pictures, a row each."""
    input:
        pictures=lambda wildcards: images(wildcards.model, "final"),
        judge=LAYOUT.model("judge"),
        guide=LAYOUT.model("guide") if HAS_BASE else [],
        bundles=lambda wildcards: scored_bundles(images(wildcards.model, "final")),
    output:
        LAYOUT.image_scores("{model}", "final"),
        rest(
            LAYOUT.log("score_pictures", "{model}"),
            LAYOUT.image_scores("{model}", "final"),
        ),
    log:
        LAYOUT.log("score_pictures", "{model}"),
    wildcard_constraints:
        model=one_of(SETS),
    conda:
        "../envs/models.yaml"
    threads: threads_of("score_pictures")
    resources:
        **needs("score_pictures", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["score"]["batch_size"],
    params:
        settings=score_settings(),
        code=code(
            "score_pictures",
            (plugins.KINDS, judge_kind.OWN),
            *([("models", "guide")] if HAS_BASE else []),
            *(guide_code() if HAS_BASE else []),
        ),
        pictures=lambda wildcards, input: folders(input.pictures),
        judge=subpath(input.judge, parent=True),
        guide=lambda wildcards, input: (
            ["--guide", layout.folder(input.guide)] if input.guide else []
        ),
        root=lambda wildcards: here(OUT),
    shell:
        writing_one(
            python("score_pictures") + " --settings {params.settings:q}"
            " --pictures {params.pictures:q} --judge {params.judge:q} {params.guide:q}"
            " --root {params.root:q} --out {output:q} --batch-size {resources.batch}"
            " --device {resources.device} --threads {threads} --log {log:q}"
        )


if not HAS_BASE:

    use rule score_pictures as score_references with:
        input:
            pictures=[LAYOUT.reference(reference) for reference in REFERENCES],
            judge=LAYOUT.model("judge"),
            guide=[],
            bundles=scored_bundles([LAYOUT.reference(reference) for reference in REFERENCES]),
        output:
            LAYOUT.reference_scores,
            rest(LAYOUT.log("score", "references"), LAYOUT.reference_scores),
        log:
            LAYOUT.log("score", "references"),
