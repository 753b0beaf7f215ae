# In: tables, pictures, training logs. Out: figures/, gallery/, provenance.json.

FIGURES = [
    "finetune",
    "refinement",
    "hard_prompts",
    "by_category",
    "guide_judge_fidelity",
    "training",
]


rule figures:
    """Draw the figures from the tables and training logs."""
    input:
        tables=rules.tables.output,
        training=expand(f"{OUT}/training/{{model}}/log.csv", model=MODELS[1:]),
    output:
        expand(f"{OUT}/figures/{{figure}}.{{form}}", figure=FIGURES, form=["svg", "png"]),
    log:
        f"{OUT}/logs/figures.log",
    conda:
        "../envs/tables.yaml"
    params:
        settings=settings({"confidence": CONFIG["statistics"]["confidence"]}),
        code=code("figures"),
        tables=lambda wildcards, input: os.path.dirname(input.tables[0]),
        out=subpath(output[0], parent=True),
    shell:
        python("figures") + " --settings {params.settings:q} --tables {params.tables:q}"
        " --training {input.training:q} --out {params.out:q} --log {log:q}"


rule gallery:
    """Show the same prompts across models and rounds on one page."""
    input:
        prompts=rules.prompts.output[0],
        hard=rules.hard_prompts.output[0],
        scores=score_files(),
        templates=[
            os.path.relpath(SCRIPTS / "vlg/templates" / f"gallery.{kind}")
            for kind in ("html", "css", "js")
        ],
    output:
        f"{OUT}/gallery/index.html",
    log:
        f"{OUT}/logs/gallery.log",
    conda:
        "../envs/tables.yaml"
    params:
        settings=settings(
            {
                "study": CONFIG["study"],
                "prompts": CONFIG["gallery"]["prompts"],
                "models": MODELS,
                "rounds": ROUNDS,
            }
        ),
        code=code("gallery"),
        root=lambda wildcards: OUT,
        out=subpath(output[0], parent=True),
    shell:
        python("gallery") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " --hard {input.hard:q} --scores {input.scores:q} --root {params.root:q} --out {params.out:q}"
        " --log {log:q}"


rule provenance:
    """Record versions, commit, config, checksums, hardware and cost."""
    input:
        models=expand(f"{OUT}/models/{{model}}/manifest.json", model=[*MODELS, "guide", "judge"]),
        downloads=[download(what) for what in hub_sources()],
        training=expand(f"{OUT}/training/{{model}}/summary.json", model=MODELS[1:]),
        scores=score_files(),
        tables=rules.tables.output,
    output:
        f"{OUT}/provenance.json",
    log:
        f"{OUT}/logs/provenance.log",
    conda:
        "../envs/tables.yaml"
    params:
        settings=settings(CONFIG),
        code=code("provenance"),
    shell:
        python("provenance") + " --settings {params.settings:q} --models {input.models:q}"
        " --downloads {input.downloads:q}"
        " --training {input.training:q} --scores {input.scores:q} --tables {input.tables:q}"
        " --out {output:q} --log {log:q}"
