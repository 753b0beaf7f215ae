# In: captioned pictures or their download, or nothing in the shapes world; base, guide.
# Out: dataset/, latents/, embeddings/.


rule dataset:
    """Draw or gather the captioned pictures of fine-tuning."""
    input:
        source=source_of("dataset"),
        bundles=bundles(LAYOUT.download("dataset")) if "dataset" in hub_sources() else [],
    output:
        LAYOUT.dataset,
        rest(LAYOUT.log("dataset"), LAYOUT.dataset),
    log:
        LAYOUT.log("dataset"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("dataset")
    resources:
        **needs("dataset"),
    params:
        settings=settings(plan.dataset(CONFIG)),
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
        base=LAYOUT.model("base"),
        bundles=bundles(LAYOUT.dataset, LAYOUT.model("base")),
    output:
        LAYOUT.latents,
        rest(LAYOUT.log("encode"), LAYOUT.latents),
    log:
        LAYOUT.log("encode"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("encode")
    resources:
        **needs("encode", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["encode"]["batch_size"],
    params:
        settings=settings(plan.encode(CONFIG)),
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
        guide=LAYOUT.model("guide"),
        bundles=bundles(LAYOUT.dataset, LAYOUT.model("guide")),
    output:
        LAYOUT.embeddings,
        rest(LAYOUT.log("encode_guide"), LAYOUT.embeddings),
    log:
        LAYOUT.log("encode_guide"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("encode_guide")
    resources:
        **needs("encode_guide", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["encode"]["batch_size"],
    params:
        code=lambda wildcards: code("encode_guide", *looks(wildcards)),
        data=subpath(input.data, parent=True),
        guide=subpath(input.guide, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        python("encode_guide") + " --data {params.data:q} --guide {params.guide:q}"
        " --out {params.out:q} --batch-size {resources.batch}"
        " --device {resources.device} --threads {threads} --log {log:q}"


use rule encode_guide as encode_further_guide with:
    input:
        data=rules.dataset.output[0],
        guide=LAYOUT.model("{guide}"),
        bundles=bundles(LAYOUT.dataset, LAYOUT.model("{guide}")),
    output:
        LAYOUT.embeddings_of("{guide}"),
        rest(LAYOUT.log("encode_guide", "{guide}"), LAYOUT.embeddings_of("{guide}")),
    log:
        LAYOUT.log("encode_guide", "{guide}"),
    wildcard_constraints:
        guide=one_of(each for each in GUIDES if each != "guide"),
