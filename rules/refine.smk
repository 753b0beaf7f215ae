# In: a model, the guide, a model's study pictures. Out: refined/<model>/round-<r>/<arm>/shard-<k>/.


def refine_start(wildcards):
    """The metadata files among which the pictures are that one shard of refinement begins with."""
    size = CONFIG["generate"]["shard_size"]
    first = int(wildcards.shard) * size
    last = min(first + size, STUDY * len(CONFIG["seeds"]["selection"])) - 1
    begin, end = (study_place(wildcards.model, number) // size for number in (first, last))
    stage = "selection" if wildcards.model == "base" else "final"
    return images(wildcards.model, stage)[begin : end + 1]


def refine_skip(wildcards):
    """How many of the study pictures in those files belong to an earlier shard of refinement."""
    size = CONFIG["generate"]["shard_size"]
    first = int(wildcards.shard) * size
    begin = study_place(wildcards.model, first) // size * size
    return sum(study_place(wildcards.model, n) >= begin for n in range(max(0, first - size), first))


def refine_settings(wildcards):
    """How an arm redraws, how often, and on which pictures."""
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
        f"{OUT}/refined/{{model}}/round-{{round}}/{{arm}}/shard-{{shard}}/metadata.jsonl",
        model=model,
        arm=arm,
        round=range(1, ROUNDS + 1),
        shard=range(-(-number // CONFIG["generate"]["shard_size"])),
    )


def all_pictures():
    """The metadata files of every picture folder. The whole study asks for them by name, because
    Snakemake makes a deleted file again only when something that is wanted needs it."""
    plain = [images(model, stage) for model in RUNS for stage in stages(model)]
    return sum([*plain, *(refined(model, arm) for model in REFINED for arm in ARMS)], [])


rule refine:
    """All rounds of one arm on one shard: a job starts in the time that a round takes."""
    input:
        model=f"{OUT}/models/{{model}}/manifest.json",
        guide=f"{OUT}/models/guide/manifest.json",
        start=refine_start,
    output:
        [
            f"{OUT}/refined/{{model}}/round-{number}/{{arm}}/shard-{{shard}}/metadata.jsonl"
            for number in range(1, max(ROUNDS, 1) + 1)
        ],
    log:
        f"{OUT}/logs/refine/{{model}}/{{arm}}-{{shard}}.log",
    conda:
        "../envs/models.yaml"
    threads: need("refine", "threads")
    resources:
        mem_mb=memory("refine"),
        runtime=need("refine", "runtime"),
        gpu=GPUS,
        device=DEVICE,
        batch=CONFIG["generate"]["batch_size"],
    params:
        settings=refine_settings,
        code=code("refine"),
        model=subpath(input.model, parent=True),
        guide=subpath(input.guide, parent=True),
        start=lambda wildcards, input: folders(input.start),
        skip=refine_skip,
        out=f"{OUT}/refined/{{model}}",
    shell:
        python("refine") + " --settings {params.settings:q} --model {params.model:q}"
        " --guide {params.guide:q} --start {params.start:q} --skip {params.skip} --out {params.out:q}"
        " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
