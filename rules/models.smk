# In: model folders, one file, downloads, or the shapes models (shipped, or trained by shapes.smk). Out: models/.


rule model:
    """Put base, guide and judge where the study looks for them."""
    input:
        model_source,
    output:
        f"{OUT}/models/{{kind}}/manifest.json",
    log:
        f"{OUT}/logs/model/{{kind}}.log",
    conda:
        "../envs/models.yaml"
    params:
        settings=model_settings,
        code=code("model"),
        source=lambda wildcards, input: (
            input[0] if input[0].endswith(".safetensors") else os.path.dirname(input[0])
        ),
        shipped=lambda wildcards: ["--shipped"] if is_shipped(wildcards) else [],
        out=subpath(output[0], parent=True),
    shell:
        python("model") + " --settings {params.settings:q} --source {params.source:q}"
        " {params.shipped} --out {params.out:q} --log {log:q}"
