# In: a model, prompts.tsv, hard_prompts.tsv. Out: images/<model>/<stage>/shard-<k>/.


def shards(model, stage):
    """Numbers of the shards of a model's pictures at a stage (vlg.sample.sampler.listing).

    How many hard prompts there will be is not known yet, so the last shards may be empty.
    """
    selection, fresh = (len(CONFIG["seeds"][name]) for name in ("selection", "fresh"))
    hard = min(CONFIG["hard"]["count"], POOL)
    if stage == "selection":
        number = POOL * selection
    else:
        number = hard * fresh
        if model != "base":
            number += (STUDY + min(hard, POOL - STUDY)) * selection
    return range(-(-number // CONFIG["generate"]["shard_size"]))


def stages(model):
    """The base is drawn twice: hard prompts are chosen from what it draws first."""
    return ["selection", "final"] if model == "base" else ["final"]


def images(model, stage):
    """The metadata files of a model's pictures at a stage."""
    return expand(
        f"{OUT}/images/{{model}}/{{stage}}/shard-{{shard}}/metadata.jsonl",
        model=model,
        stage=stage,
        shard=shards(model, stage),
    )


def study_images(model):
    """The metadata files among which a model's study pictures are."""
    return images(model, "selection" if model == "base" else "final")


def study_place(model, number):
    """Where a model's study picture of this number stands among the pictures of its stage.

    The base draws prompts that are not reported between those of two seeds (vlg.sample.sampler.listing).
    """
    seed, prompt = divmod(number, STUDY)
    return seed * (POOL if model == "base" else STUDY) + prompt


def generate_settings(wildcards):
    """How a shard is drawn and which pictures it has."""
    seeds = CONFIG["seeds"]
    return settings(
        {
            **sampling_settings(),
            "model": wildcards.model,
            "stage": wildcards.stage,
            "selection": seeds["selection"],
            "fresh": seeds["fresh"] if wildcards.stage == "final" else [],
            "shard": int(wildcards.shard),
            "shard_size": CONFIG["generate"]["shard_size"],
        }
    )


rule generate:
    """Draw one shard of a model's pictures."""
    input:
        model=f"{OUT}/models/{{model}}/manifest.json",
        prompts=rules.prompts.output[0],
        hard=branch(
            lambda wildcards: wildcards.stage == "final",
            then=rules.hard_prompts.output[0],
            otherwise=[],
        ),
    output:
        f"{OUT}/images/{{model}}/{{stage}}/shard-{{shard}}/metadata.jsonl",
    log:
        f"{OUT}/logs/generate/{{model}}/{{stage}}-{{shard}}.log",
    conda:
        "../envs/models.yaml"
    threads: need("generate", "threads")
    resources:
        mem_mb=memory("generate"),
        runtime=need("generate", "runtime"),
        gpu=GPUS,
        device=DEVICE,
        batch=CONFIG["generate"]["batch_size"],
    params:
        settings=generate_settings,
        code=code("generate"),
        model=subpath(input.model, parent=True),
        hard=lambda wildcards, input: ["--hard", input.hard] if input.hard else [],
        out=subpath(output[0], parent=True),
    shell:
        python("generate") + " --settings {params.settings:q} --model {params.model:q}"
        " --prompts {input.prompts:q} {params.hard:q} --out {params.out:q}"
        " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
