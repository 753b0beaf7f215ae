# In: prompts.tsv and, by its kind, the base, its study pictures or another reference.
# Out: references/<reference>/.


include: "functions/references.smk"


rule reference:
    """Make one kind of pictures to hold scores against."""
    input:
        prompts=LAYOUT.prompts,
        pictures=reference_pictures,
        base=reference_base,
        bundles=reference_bundles,
    output:
        LAYOUT.reference("{reference}"),
        rest(LAYOUT.log("reference", "{reference}"), LAYOUT.reference("{reference}")),
    log:
        LAYOUT.log("reference", "{reference}"),
    wildcard_constraints:
        reference=one_of(REFERENCES),
    conda:
        "../envs/models.yaml"
    threads: threads_of("reference")
    resources:
        **needs("reference", gpu=reference_gpus),
        device=DEVICE,
        batch=CONFIG["encode"]["batch_size"],
    params:
        settings=settings({"seeds": CONFIG["seeds"]["selection"]}),
        code=reference_code,
        options=reference_options,
        out=subpath(output[0], parent=True),
    shell:
        python("reference") + " {wildcards.reference} --settings {params.settings:q}"
        " --prompts {input.prompts:q} {params.options:q} --out {params.out:q}"
        " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
