# In: base, guide, latents/. Out: models/<variant>-<step>/, training/<variant>-<step>/.


def previous(wildcards):
    """The checkpoint that this one continues: the next smaller step of the same variant."""
    earlier = [step for step in STEPS if step < int(wildcards.step)]
    if not earlier:
        return []
    return f"{OUT}/training/{wildcards.variant}-{earlier[-1]}/manifest.json"


def finetune_settings(wildcards):
    step = int(wildcards.step)
    start = max((each for each in STEPS if each < step), default=0)
    values = {**VARIANTS[wildcards.variant], "start": start, "step": step}
    return settings({**values, "seed": CONFIG["seeds"]["train"]})


rule finetune:
    """Train one checkpoint, continuing the one before."""
    input:
        base=OUT + "/models/base/manifest.json",
        guide=OUT + "/models/guide/manifest.json",
        latents=rules.encode.output[0],
        previous=previous,
    output:
        model=OUT + "/models/{variant}-{step}/manifest.json",
        training=OUT + "/training/{variant}-{step}/manifest.json",
        summary=OUT + "/training/{variant}-{step}/summary.json",
        log=OUT + "/training/{variant}-{step}/log.csv",
    log:
        OUT + "/logs/finetune/{variant}-{step}.log",
    conda:
        "../envs/models.yaml"
    # The longest chain of the study: everything else can wait for it.
    priority: 10
    threads: THREADS
    resources:
        mem_mb=MEMORY,
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
        "python {SCRIPTS:q}/finetune.py --settings {params.settings:q} --base {params.base:q}"
        " --guide {params.guide:q} --cache {params.cache:q} {params.previous:q}"
        " --out-model {params.model:q} --out-training {params.training:q}"
        " --device {DEVICE} --threads {threads} --log {log:q}"
