# In: study pictures, further judges. Out: judges/<judge>/<model>.csv, judges/diversity.csv,
# judges/selftest.csv. None of these rules runs unless the config, or its name, asks for it.


include: "functions/judge.smk"


rule judge:
    """Score a model's study pictures by one further judge."""
    input:
        pictures=lambda wildcards: study_images(wildcards.model),
        judge=judge_files,
        bundles=judge_bundles,
    output:
        LAYOUT.judge_scores("{judge}", "{model}"),
        rest(LAYOUT.log("judge", "{judge}-{model}"), LAYOUT.judge_scores("{judge}", "{model}")),
    log:
        LAYOUT.log("judge", "{judge}-{model}"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("judge")
    resources:
        **needs("judge", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["score"]["batch_size"],
    params:
        settings=judge_settings,
        code=lambda wildcards: code("judge", (plugins.KINDS, JUDGES[wildcards.judge].kind)),
        pictures=lambda wildcards, input: folders(input.pictures),
        root=lambda wildcards: here(OUT),
    shell:
        writing_one(
            python("judge") + " --settings {params.settings:q} --pictures {params.pictures:q}"
            " --root {params.root:q} --out {output:q} --batch-size {resources.batch}"
            " --device {resources.device} --threads {threads} --log {log:q}"
        )


rule diversity:
    """Measure how pictures of a prompt differ from each other and from base's."""
    input:
        pictures=compared_pictures(),
        judge=LAYOUT.model("judge"),
        bundles=bundles(*compared_pictures(), LAYOUT.model("judge")),
    output:
        LAYOUT.diversity,
        rest(LAYOUT.log("diversity"), LAYOUT.diversity),
    log:
        LAYOUT.log("diversity"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("diversity")
    resources:
        **needs("diversity", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["score"]["batch_size"],
    params:
        settings=settings({"precision": CONFIG["score"]["precision"]}),
        code=code("diversity"),
        pictures=lambda wildcards, input: folders(input.pictures),
        judge=subpath(input.judge, parent=True),
    shell:
        writing_one(
            python("diversity") + " --settings {params.settings:q} --pictures {params.pictures:q}"
            " --judge {params.judge:q} --out {output:q} --batch-size {resources.batch}"
            " --device {resources.device} --threads {threads} --log {log:q}"
        )


rule judges_selftest:
    """Look for traps in the judge, the guide and further judges; asked for by this name."""
    input:
        judge=LAYOUT.model("judge"),
        guide=LAYOUT.model("guide") if HAS_BASE else no_selftest,
        further=[file for name in JUDGES for file in further_judge_files(name)],
        bundles=selftest_bundles(),
    output:
        rest(
            LAYOUT.log("judges_selftest"),
            LAYOUT.judges_selftest,
            LAYOUT.judges_selftest.replace(".csv", ".md"),
        ),
        csv=LAYOUT.judges_selftest,
        md=LAYOUT.judges_selftest.replace(".csv", ".md"),
    log:
        LAYOUT.log("judges_selftest"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("judges_selftest")
    resources:
        **needs("judges_selftest", gpu=GPUS),
        device=DEVICE,
    params:
        settings=lambda wildcards: settings(
            {
                "precision": CONFIG["score"]["precision"],
                "judges": {name: further_judge(name) for name in JUDGES},
            }
        ),
        code=code("judges_selftest", *((plugins.KINDS, each.kind) for each in JUDGES.values())),
        judge=subpath(input.judge, parent=True),
        guide=subpath(input.guide, parent=True),
    shell:
        python("judges_selftest") + " --settings {params.settings:q} --judge {params.judge:q}"
        " --guide {params.guide:q} --out {output.csv:q} --device {resources.device}"
        " --threads {threads} --log {log:q}"
