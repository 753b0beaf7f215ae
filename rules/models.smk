# In: model folders, one file, downloads, or the shapes models (shipped, or trained by shapes.smk).
# Out: models/.


rule model:
    """Put base, guide and judge where the study looks for them."""
    input:
        model_source,
        guide=guide_to_differ_from,
    output:
        f"{OUT}/models/{{kind}}/manifest.json",
    log:
        f"{OUT}/logs/model/{{kind}}.log",
    conda:
        "../envs/models.yaml"
    threads: need("model", "threads")
    resources:
        mem_mb=memory("model"),
        runtime=need("model", "runtime"),
        gpu=0,
    params:
        settings=model_settings,
        code=code("model"),
        source=lambda wildcards, input: (
            input[0] if input[0].endswith(".safetensors") else os.path.dirname(input[0])
        ),
        shipped=lambda wildcards: ["--shipped"] if is_shipped(wildcards) else [],
        guide=lambda wildcards, input: ["--guide", input.guide] if input.guide else [],
        out=subpath(output[0], parent=True),
    shell:
        python("model") + " --settings {params.settings:q} --source {params.source:q}"
        " {params.shipped} {params.guide:q} --out {params.out:q} --log {log:q}"
