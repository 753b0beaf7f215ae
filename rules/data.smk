# In: captioned pictures or their download, or nothing in the shapes world; base, guide.
# Out: dataset/, latents/, embeddings/.


rule dataset:
    """Draw or gather the captioned pictures of fine-tuning."""
    input:
        source=dataset_source(),
    output:
        f"{OUT}/dataset/manifest.json",
    log:
        f"{OUT}/logs/dataset.log",
    conda:
        "../envs/models.yaml"
    threads: need("dataset", "threads")
    resources:
        mem_mb=memory("dataset"),
        runtime=need("dataset", "runtime"),
        gpu=0,
    params:
        settings=settings(dataset_settings()),
        code=code("dataset"),
        source=lambda wildcards, input: as_source(input.source),
        out=subpath(output[0], parent=True),
    shell:
        python("dataset") + " --settings {params.settings:q} {params.source:q}"
        " --out {params.out:q} --log {log:q}"


rule encode:
    """Encode pictures and captions once for all fine-tuning."""
    input:
        data=rules.dataset.output[0],
        base=f"{OUT}/models/base/manifest.json",
    output:
        f"{OUT}/latents/manifest.json",
    log:
        f"{OUT}/logs/encode.log",
    conda:
        "../envs/models.yaml"
    threads: need("encode", "threads")
    resources:
        mem_mb=memory("encode"),
        runtime=need("encode", "runtime"),
        gpu=GPUS,
        device=DEVICE,
        batch=CONFIG["encode"]["batch_size"],
    params:
        settings=encode_settings(),
        code=code("encode", FAMILY),
        data=subpath(input.data, parent=True),
        base=subpath(input.base, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        python("encode") + " --settings {params.settings:q} --data {params.data:q}"
        " --base {params.base:q} --out {params.out:q} --batch-size {resources.batch}"
        " --device {resources.device} --threads {threads} --log {log:q}"


rule encode_guide:
    """Embed pictures and captions by the guide: another guide encodes no picture again."""
    input:
        data=rules.dataset.output[0],
        guide=f"{OUT}/models/guide/manifest.json",
    output:
        f"{OUT}/embeddings/manifest.json",
    log:
        f"{OUT}/logs/encode_guide.log",
    conda:
        "../envs/models.yaml"
    threads: need("encode_guide", "threads")
    resources:
        mem_mb=memory("encode_guide"),
        runtime=need("encode_guide", "runtime"),
        gpu=GPUS,
        device=DEVICE,
        batch=CONFIG["encode"]["batch_size"],
    params:
        code=code("encode_guide"),
        data=subpath(input.data, parent=True),
        guide=subpath(input.guide, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        python("encode_guide") + " --data {params.data:q} --guide {params.guide:q}"
        " --out {params.out:q} --batch-size {resources.batch}"
        " --device {resources.device} --threads {threads} --log {log:q}"
