# In: a model, the guide, a model's study pictures. Out: refined/<model>/round-<r>/<arm>/shard-<k>/.


def refine_settings(wildcards):
    return settings(
        {
            **sampling_settings(),
            **ARMS[wildcards.arm],
            "arm": wildcards.arm,
            "rounds": ROUNDS,
            "shard": int(wildcards.shard),
            "shard_size": CONFIG["generate"]["shard_size"],
        }
    )


def refined(model, arm):
    """The metadata files of all rounds of an arm."""
    number = STUDY * len(CONFIG["seeds"]["selection"])
    return expand(
        OUT + "/refined/{model}/round-{round}/{arm}/shard-{shard}/metadata.jsonl",
        model=model,
        arm=arm,
        round=range(1, ROUNDS + 1),
        shard=range(-(-number // CONFIG["generate"]["shard_size"])),
    )


rule refine:
    """All rounds of one arm on one shard: a job starts in the time that a round takes."""
    input:
        model=OUT + "/models/{model}/manifest.json",
        guide=OUT + "/models/guide/manifest.json",
        start=lambda wildcards: study_images(wildcards.model),
    output:
        expand(
            OUT + "/refined/{{model}}/round-{round}/{{arm}}/shard-{{shard}}/metadata.jsonl",
            round=range(1, max(ROUNDS, 1) + 1),
        ),
    log:
        OUT + "/logs/refine/{model}/{arm}-{shard}.log",
    conda:
        "../envs/models.yaml"
    threads: THREADS
    resources:
        mem_mb=MEMORY,
    params:
        settings=refine_settings,
        code=code("refine"),
        model=subpath(input.model, parent=True),
        guide=subpath(input.guide, parent=True),
        start=lambda wildcards, input: folders(input.start),
        out=OUT + "/refined/{model}",
        batch=CONFIG["generate"]["batch_size"],
    shell:
        "python {SCRIPTS:q}/refine.py --settings {params.settings:q} --model {params.model:q}"
        " --guide {params.guide:q} --start {params.start:q} --out {params.out:q}"
        " --batch-size {params.batch} --device {DEVICE} --threads {threads} --log {log:q}"
