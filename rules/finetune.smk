# In: base, latents/ or dataset/, for a CLIP term guide and embeddings/. Out: models/<variant>-<step>/, training/<variant>-<step>/.


rule finetune:
    """Train one checkpoint, continuing the one before."""
    input:
        base=f"{OUT}/models/base/manifest.json",
        guide=guide,
        data=training_data,
        decoder=decoder,
        previous=previous,
    output:
        model=f"{OUT}/models/{{variant}}-{{step}}/manifest.json",
        training=f"{OUT}/training/{{variant}}-{{step}}/manifest.json",
        summary=f"{OUT}/training/{{variant}}-{{step}}/summary.json",
        log=f"{OUT}/training/{{variant}}-{{step}}/log.csv",
    log:
        f"{OUT}/logs/finetune/{{variant}}-{{step}}.log",
    # The longest chain of the study: everything else can wait for it.
    priority: 10
    conda:
        "../envs/models.yaml"
    threads: THREADS
    resources:
        mem_mb=MEMORY,
        device=DEVICE,
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
        python("finetune") + " --settings {params.settings:q} --base {params.base:q}"
        " {params.options:q} --out-model {params.model:q} --out-training {params.training:q}"
        " --save-every {resources.save_every} --save-minutes {resources.save_minutes}"
        " --device {resources.device} --threads {threads} --log {log:q}"
