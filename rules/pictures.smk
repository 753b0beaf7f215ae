# In: pictures that were drawn elsewhere, prompts.tsv. Out: images/<set>/final/shard-0/.


include: "functions/pictures.smk"


rule pictures:
    """Take a set of finished pictures into the study."""
    input:
        # Not by its own time, which any file that comes and goes in it changes.
        source=lambda wildcards: ancient(given(SETS[wildcards.model]["source"])),
        prompts=LAYOUT.prompts,
    output:
        LAYOUT.images("{model}", "final", 0),
        rest(LAYOUT.log("pictures", "{model}"), LAYOUT.images("{model}", "final", 0)),
    log:
        LAYOUT.log("pictures", "{model}"),
    wildcard_constraints:
        model=one_of(SETS),
    conda:
        "../envs/models.yaml"
    threads: threads_of("pictures")
    resources:
        **needs("pictures"),
    params:
        settings=set_settings,
        code=code("pictures"),
        out=subpath(output[0], parent=True),
    shell:
        python("pictures") + " --settings {params.settings:q} --source {input.source:q}"
        " --prompts {input.prompts:q} --out {params.out:q} --threads {threads} --log {log:q}"
