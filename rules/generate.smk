# In: a model, prompts.tsv, hard_prompts.tsv. Out: images/<model>/<stage>/shard-<k>/.


include: "functions/generate.smk"


rule generate:
    """Draw one shard of a model's pictures."""
    input:
        model=LAYOUT.model("{model}"),
        prompts=rules.prompts.output[0],
        hard=branch(
            lambda wildcards: wildcards.stage == "final",
            then=rules.hard_prompts.output[0],
            otherwise=[],
        ),
        bundles=bundles(LAYOUT.model("{model}")),
    output:
        LAYOUT.images("{model}", "{stage}", "{shard}"),
        rest(
            LAYOUT.log("generate", "{model}", "{stage}-{shard}"),
            LAYOUT.images("{model}", "{stage}", "{shard}"),
        ),
    log:
        LAYOUT.log("generate", "{model}", "{stage}-{shard}"),
    wildcard_constraints:
        model=one_of(RUNS),
    conda:
        "../envs/models.yaml"
    threads: threads_of("generate")
    resources:
        **needs("generate", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["generate"]["batch_size"],
    params:
        settings=generate_settings,
        code=lambda wildcards: code("generate", family_of(wildcards.model)),
        model=subpath(input.model, parent=True),
        hard=lambda wildcards, input: ["--hard", input.hard] if input.hard else [],
        out=subpath(output[0], parent=True),
    shell:
        python("generate") + " --settings {params.settings:q} --model {params.model:q}"
        " --prompts {input.prompts:q} {params.hard:q} --out {params.out:q}"
        " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
