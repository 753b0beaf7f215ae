# In: a folder of captioned pictures, or nothing in the shapes world. Out: dataset/, latents/.


def dataset_source():
    source = CONFIG["dataset"]["source"]
    return [] if source == "shapes" else source


rule dataset:
    """Draw or gather the captioned pictures of fine-tuning."""
    input:
        source=dataset_source(),
    output:
        OUT + "/dataset/manifest.json",
    log:
        OUT + "/logs/dataset.log",
    conda:
        "../envs/models.yaml"
    params:
        settings=settings(CONFIG["dataset"]),
        code=code("dataset"),
        source=lambda wildcards, input: ["--source", input.source] if input.source else [],
        out=subpath(output[0], parent=True),
    shell:
        "python {SCRIPTS:q}/dataset.py --settings {params.settings:q} {params.source:q}"
        " --out {params.out:q} --log {log:q}"


rule encode:
    """Encode pictures and captions once for all fine-tuning."""
    input:
        data=rules.dataset.output[0],
        base=OUT + "/models/base/manifest.json",
        guide=OUT + "/models/guide/manifest.json",
    output:
        OUT + "/latents/manifest.json",
    log:
        OUT + "/logs/encode.log",
    conda:
        "../envs/models.yaml"
    threads: THREADS
    resources:
        mem_mb=MEMORY,
    params:
        settings=settings({}),
        code=code("encode"),
        data=subpath(input.data, parent=True),
        base=subpath(input.base, parent=True),
        guide=subpath(input.guide, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "python {SCRIPTS:q}/encode.py --settings {params.settings:q} --data {params.data:q}"
        " --base {params.base:q} --guide {params.guide:q} --out {params.out:q}"
        " --device {DEVICE} --threads {threads} --log {log:q}"
