# In: the Hugging Face Hub. Out: downloads/<what>/. No other rule needs the network.


# Where jobs run on a cluster, its nodes often have no way out: these run beside Snakemake.
localrules:
    fetch,


rule fetch:
    """Download a model, the data set or the prompts; what the Hub's cache has is not fetched."""
    output:
        LAYOUT.download("{what}"),
        rest(LAYOUT.log("fetch", "{what}"), LAYOUT.download("{what}")),
    log:
        LAYOUT.log("fetch", "{what}"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("fetch")
    resources:
        **needs("fetch"),
    params:
        settings=fetch_settings,
        code=code("fetch"),
        out=subpath(output[0], parent=True),
    shell:
        python("fetch") + " --settings {params.settings:q} --out {params.out:q} --log {log:q}"
