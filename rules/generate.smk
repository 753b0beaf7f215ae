# In: a model, prompts.tsv, hard_prompts.tsv. Out: images/<model>/<stage>/shard-<k>/.


def generate_settings(wildcards):
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
        model=OUT + "/models/{model}/manifest.json",
        prompts=rules.prompts.output[0],
        hard=branch(
            lambda wildcards: wildcards.stage == "final",
            then=rules.hard_prompts.output[0],
            otherwise=[],
        ),
    output:
        OUT + "/images/{model}/{stage}/shard-{shard}/metadata.jsonl",
    log:
        OUT + "/logs/generate/{model}/{stage}-{shard}.log",
    conda:
        "../envs/models.yaml"
    threads: THREADS
    resources:
        mem_mb=MEMORY,
    params:
        settings=generate_settings,
        code=code("generate"),
        model=subpath(input.model, parent=True),
        hard=lambda wildcards, input: ["--hard", input.hard] if input.hard else [],
        out=subpath(output[0], parent=True),
        batch=CONFIG["generate"]["batch_size"],
    shell:
        "python {SCRIPTS:q}/generate.py --settings {params.settings:q} --model {params.model:q}"
        " --prompts {input.prompts:q} {params.hard:q} --out {params.out:q}"
        " --batch-size {params.batch} --device {DEVICE} --threads {threads} --log {log:q}"
