# In: model folders, one file, downloads, or the shapes models (shipped, or trained by shapes.smk).
# Out: models/.


include: "functions/models.smk"


rule model:
    """Put base, guide and judge where the study looks for them."""
    input:
        model_source,
        guide=guide_to_differ_from,
        bundles=model_bundles,
    output:
        LAYOUT.model("{kind}"),
        rest(LAYOUT.log("model", "{kind}"), LAYOUT.model("{kind}")),
    log:
        LAYOUT.log("model", "{kind}"),
    wildcard_constraints:
        kind="base|judge" if "guide" in GUIDES else "base|guide|judge",
    conda:
        "../envs/models.yaml"
    threads: threads_of("model")
    resources:
        **needs("model"),
    params:
        settings=model_settings,
        code=model_code,
        source=lambda wildcards, input: (
            input[0] if input[0].endswith(".safetensors") else os.path.dirname(input[0])
        ),
        shipped=lambda wildcards: ["--shipped"] if is_shipped(wildcards) else [],
        guide=lambda wildcards, input: ["--guide", *input.guide] if input.guide else [],
        out=subpath(output[0], parent=True),
    shell:
        python("model") + " --settings {params.settings:q} --source {params.source:q}"
        " {params.shipped} {params.guide:q} --out {params.out:q} --log {log:q}"


rule guide:
    """Make a guide of the section `guides`: of another kind, in views, or of several."""
    input:
        source=guide_source,
        bundles=guide_bundles,
    output:
        LAYOUT.model("{guide}"),
        rest(LAYOUT.log("guide", "{guide}"), LAYOUT.model("{guide}")),
    log:
        LAYOUT.log("guide", "{guide}"),
    wildcard_constraints:
        guide=one_of(guide for guide in GUIDES if guide not in CONTROL_GUIDES),
    conda:
        "../envs/models.yaml"
    threads: threads_of("guide")
    resources:
        **needs("guide"),
    params:
        settings=lambda wildcards: settings(GUIDES[wildcards.guide].handed_on()),
        code=code("guide"),
        source=lambda wildcards, input: folders(input.source),
        shipped=lambda wildcards: ["--shipped"] if is_shipped_guide(wildcards) else [],
        out=subpath(output[0], parent=True),
    shell:
        python("guide") + " --settings {params.settings:q} --source {params.source:q}"
        " {params.shipped} --out {params.out:q} --log {log:q}"


rule compared:
    """Put a finished model beside the base, with LoRAs merged into it."""
    input:
        source=compared_source,
        lora=lambda wildcards: [*map(given, COMPARED[wildcards.model].loras)],
        base=LAYOUT.model("base"),
        bundles=compared_bundles,
    output:
        LAYOUT.model("{model}"),
        rest(LAYOUT.log("compared", "{model}"), LAYOUT.model("{model}")),
    log:
        LAYOUT.log("compared", "{model}"),
    wildcard_constraints:
        model=one_of(COMPARED),
    conda:
        "../envs/models.yaml"
    threads: threads_of("compared")
    resources:
        **needs("compared"),
    params:
        settings=compared_settings,
        code=lambda wildcards: code("compared", family_of(wildcards.model)),
        source=lambda wildcards, input: (
            input.source
            if input.source.endswith(".safetensors")
            else os.path.dirname(input.source)
        ),
        shipped=lambda wildcards: ["--shipped"] if is_shipped_compared(wildcards) else [],
        lora=lambda wildcards, input: ["--lora", *input.lora] if input.lora else [],
        base=subpath(input.base, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        python("compared") + " --settings {params.settings:q} --source {params.source:q}"
        " {params.shipped} {params.lora:q} --base {params.base:q} --out {params.out:q} --log {log:q}"


rule control_guide:
    """Make a guide that is a control: the verifier, or one that is shown other texts."""
    input:
        guide=shuffled_guide,
        data=shuffled_data,
        bundles=control_bundles,
    output:
        LAYOUT.model("{guide}"),
        rest(LAYOUT.log("guide", "{guide}"), LAYOUT.model("{guide}")),
    log:
        LAYOUT.log("guide", "{guide}"),
    wildcard_constraints:
        guide=one_of(CONTROL_GUIDES),
    conda:
        "../envs/models.yaml"
    threads: threads_of("guide")
    resources:
        **needs("guide"),
    params:
        settings=lambda wildcards: settings(GUIDES[wildcards.guide].handed_on()),
        code=lambda wildcards: code("control_guide", (plugins.KINDS, GUIDES[wildcards.guide].kind)),
        options=control_options,
        out=subpath(output[0], parent=True),
    shell:
        python("control_guide") + " --settings {params.settings:q} {params.options:q}"
        " --out {params.out:q} --log {log:q}"
