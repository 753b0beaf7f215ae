# In: scores, prompts, training summaries. Out: tables/, figures/.

TABLES = [
    "finetune",
    "refinement",
    "equal_compute",
    "hard_prompts",
    "by_category",
    "by_challenge",
    "by_split",
    "by_length",
    "by_fact",
    "claims",
]


rule tables:
    """Make every table from cached scores; no model is loaded."""
    input:
        prompts=rules.prompts.output[0],
        hard=rules.hard_prompts.output[0],
        scores=score_files(),
        training=expand(f"{OUT}/training/{{model}}/summary.json", model=RUNS[1:]),
    output:
        expand(f"{OUT}/tables/{{table}}.{{form}}", table=TABLES, form=["csv", "md", "tex"]),
    log:
        f"{OUT}/logs/tables.log",
    conda:
        "../envs/tables.yaml"
    threads: need("tables", "threads")
    resources:
        mem_mb=memory("tables"),
        runtime=need("tables", "runtime"),
        gpu=0,
    params:
        settings=settings(
            {
                **CONFIG["statistics"],
                "published": CONFIG["published"],
                "models": MODELS,
                "train_seeds": TRAIN_SEEDS,
                "rounds": ROUNDS,
            }
        ),
        code=code("tables"),
        root=lambda wildcards: OUT,
        out=subpath(output[0], parent=True),
    shell:
        python("tables") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " --hard {input.hard:q} --scores {input.scores:q} --training {input.training:q}"
        " --root {params.root:q} --out {params.out:q} --log {log:q}"


rule sweep:
    """Rank all variants by the judge on development prompts, with what each cost."""
    input:
        prompts=f"{OUT}/development.tsv",
        scores=expand(f"{OUT}/scores/samples/{{model}}.csv", model=SWEPT),
        training=expand(f"{OUT}/training/{{model}}/summary.json", model=SWEPT),
    output:
        expand(f"{OUT}/tables/sweep.{{form}}", form=["csv", "md", "tex"]),
    log:
        f"{OUT}/logs/sweep.log",
    conda:
        "../envs/tables.yaml"
    threads: need("sweep", "threads")
    resources:
        mem_mb=memory("sweep"),
        runtime=need("sweep", "runtime"),
        gpu=0,
    params:
        settings=settings(CONFIG["statistics"]),
        code=code("sweep"),
        out=subpath(output[0], parent=True),
    shell:
        python("sweep") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " --scores {input.scores:q} --training {input.training:q} --out {params.out:q} --log {log:q}"
