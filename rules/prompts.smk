# In: a prompt file or its download, or nothing in the shapes world. Out: prompts.tsv.


rule prompts:
    """Select the study's prompts."""
    input:
        source=source_of("prompts"),
        bundles=(bundles(source_of("prompts")) if BENCHMARK or "prompts" in hub_sources() else []),
    output:
        LAYOUT.prompts,
        rest(LAYOUT.log("prompts"), LAYOUT.prompts),
    log:
        LAYOUT.log("prompts"),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("prompts")
    resources:
        **needs("prompts"),
    params:
        settings=prompt_settings(),
        code=code("prompts"),
        source=lambda wildcards, input: as_source(input.source, "prompts.tsv"),
    shell:
        writing_one(
            python("prompts") + " --settings {params.settings:q} {params.source:q}"
            " --out {output:q} --log {log:q}"
        )


rule hard_prompts:
    """Choose the prompts the base model does worst."""
    input:
        prompts=rules.prompts.output[0],
        scores=LAYOUT.image_scores("base", "selection"),
    output:
        LAYOUT.hard_prompts,
        rest(LAYOUT.log("hard_prompts"), LAYOUT.hard_prompts),
    log:
        LAYOUT.log("hard_prompts"),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("hard_prompts")
    resources:
        **needs("hard_prompts"),
    params:
        settings=settings(CONFIG["hard"]),
        code=code("hard_prompts"),
    shell:
        writing_one(
            python("hard_prompts") + " --settings {params.settings:q}"
            " --prompts {input.prompts:q} --scores {input.scores:q} --out {output:q} --log {log:q}"
        )
