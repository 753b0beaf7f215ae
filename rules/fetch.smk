# In: the Hugging Face Hub, of some benchmarks GitHub. Out: downloads/<what>/. No other rule needs
# the network.


# Where jobs run on a cluster, its nodes often have no way out: these run beside Snakemake.
localrules:
    fetch,
    fetch_benchmark,


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


rule fetch_benchmark:
    """Download the prompts of a benchmark, with what judges ask of its pictures."""
    output:
        LAYOUT.benchmark(),
        rest(LAYOUT.log("fetch", "benchmark"), LAYOUT.benchmark()),
        asked=ASKED,
    log:
        LAYOUT.log("fetch", "benchmark"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("fetch_benchmark")
    resources:
        **needs("fetch_benchmark"),
    params:
        settings=settings({key: CONFIG["prompts"][key] for key in ("source", "sha256")}),
        code=code("fetch_benchmark", *benchmark_code()),
        out=subpath(output[0], parent=True),
    shell:
        python("fetch_benchmark") + " --settings {params.settings:q} --out {params.out:q}"
        " --log {log:q}"
