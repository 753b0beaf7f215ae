# In: base, latents/ or dataset/, for a CLIP term guide and embeddings/; prompts.tsv.
# Out: development.tsv, models/<variant>-<step>/, training/<variant>-<step>/.


rule development:
    """Write the prompts that each checkpoint draws: none of them is reported."""
    input:
        prompts=rules.prompts.output[0],
        data=development_data(),
    output:
        f"{OUT}/development.tsv",
    log:
        f"{OUT}/logs/development.log",
    conda:
        "../envs/models.yaml"
    threads: need("development", "threads")
    resources:
        mem_mb=memory("development"),
        runtime=need("development", "runtime"),
        gpu=0,
    params:
        settings=development_settings(),
        code=code("development"),
        data=lambda wildcards, input: (
            ["--data", os.path.dirname(input.data)] if input.data else []
        ),
    shell:
        python("development") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " {params.data:q} --out {output:q} --log {log:q}"


rule finetune:
    """Train one checkpoint, continuing the one before."""
    input:
        base=f"{OUT}/models/base/manifest.json",
        guide=guide,
        data=training_data,
        decoder=decoder,
        previous=previous,
        development=rules.development.output[0] if SAMPLES else [],
    output:
        [f"{OUT}/training/{{variant}}-{{step}}{{run}}/samples/metadata.jsonl"] if SAMPLES else [],
        model=f"{OUT}/models/{{variant}}-{{step}}{{run}}/manifest.json",
        training=f"{OUT}/training/{{variant}}-{{step}}{{run}}/manifest.json",
        summary=f"{OUT}/training/{{variant}}-{{step}}{{run}}/summary.json",
        log=f"{OUT}/training/{{variant}}-{{step}}{{run}}/log.csv",
    log:
        f"{OUT}/logs/finetune/{{variant}}-{{step}}{{run}}.log",
    # The longest chain of the study: everything else can wait for it.
    priority: 10
    conda:
        "../envs/models.yaml"
    threads: need("finetune", "threads") * PROCESSES
    resources:
        mem_mb=memory("finetune", PROCESSES),
        runtime=need("finetune", "runtime"),
        gpu=GPUS * PROCESSES,
        device=DEVICE,
        processes=PROCESSES,
        nodes=NODES,
        launcher=CONFIG["finetune"]["launcher"],
        batch=CONFIG["generate"]["batch_size"],
        save_every=CONFIG["finetune"]["save_every"],
        save_minutes=CONFIG["finetune"]["save_minutes"],
    params:
        settings=finetune_settings,
        code=code("finetune"),
        base=subpath(input.base, parent=True),
        options=lambda wildcards, input: finetune_options(wildcards, input),
        model=subpath(output.model, parent=True),
        training=subpath(output.training, parent=True),
    shell:
        python("launch") + " --processes {resources.processes} --nodes {resources.nodes}"
        " --launcher={resources.launcher:q} "
        + script("finetune")
        + " --settings {params.settings:q} --base {params.base:q} {params.options:q}"
        " --out-model {params.model:q} --out-training {params.training:q}"
        " --save-every {resources.save_every} --save-minutes {resources.save_minutes}"
        " --batch-size {resources.batch}"
        " --device {resources.device} --threads {threads} --log {log:q}"
