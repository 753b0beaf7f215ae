# In: base, guide, latents/. Out: models/<variant>-<step>/, training/<variant>-<step>/.


rule finetune:
    """Train one checkpoint, continuing the one before."""
    input:
        base=f"{OUT}/models/base/manifest.json",
        guide=f"{OUT}/models/guide/manifest.json",
        latents=rules.encode.output[0],
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
    params:
        settings=finetune_settings,
        code=code("finetune"),
        base=subpath(input.base, parent=True),
        guide=subpath(input.guide, parent=True),
        cache=subpath(input.latents, parent=True),
        previous=lambda wildcards, input: (
            ["--previous", os.path.dirname(input.previous)] if input.previous else []
        ),
        model=subpath(output.model, parent=True),
        training=subpath(output.training, parent=True),
    shell:
        python("finetune") + " --settings {params.settings:q} --base {params.base:q}"
        " --guide {params.guide:q} --cache {params.cache:q} {params.previous:q}"
        " --out-model {params.model:q} --out-training {params.training:q}"
        " --device {resources.device} --threads {threads} --log {log:q}"
