# In: model folders, or the shapes models (shipped, or trained by shapes.smk). Out: models/.


def model_source(wildcards):
    """The file by which Snakemake knows a model."""
    source, kind = CONFIG["models"][wildcards.kind], wildcards.kind
    part = kind + source.removeprefix("shapes")
    if not source.startswith("shapes"):
        marks = {"base": "model_index.json", "guide": "open_clip_config.json"}
        return f"{source}/{marks.get(kind, 'config.json')}"
    if CONFIG["models"]["rebuild"]:
        return f"{OUT}/pretrained/{'base/' if kind == 'base' else ''}{part}/manifest.json"
    return os.path.relpath(ROOT / "resources/shapes/manifest.json")


def model_settings(wildcards):
    source, kind = CONFIG["models"][wildcards.kind], wildcards.kind
    embedded = source in ("shapes", "shapes-early")
    return settings({"kind": kind, "source": kind + source[6:] if embedded else source})


def is_shipped(wildcards):
    source = CONFIG["models"][wildcards.kind]
    return source in ("shapes", "shapes-early") and not CONFIG["models"]["rebuild"]


rule model:
    """Put base, guide and judge where the study looks for them."""
    input:
        model_source,
    output:
        OUT + "/models/{kind}/manifest.json",
    log:
        OUT + "/logs/model/{kind}.log",
    conda:
        "../envs/models.yaml"
    params:
        settings=model_settings,
        code=code("model"),
        source=subpath(input[0], parent=True),
        shipped=lambda wildcards: ["--shipped"] if is_shipped(wildcards) else [],
        out=subpath(output[0], parent=True),
    shell:
        "python {SCRIPTS:q}/model.py --settings {params.settings:q} --source {params.source:q}"
        " {params.shipped} --out {params.out:q} --log {log:q}"
