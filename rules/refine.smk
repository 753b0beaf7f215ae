# In: a model, the guide, a model's study pictures. Out: refined/<model>/round-<r>/<arm>/shard-<k>/.


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
