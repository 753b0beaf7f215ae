# In: tables, pictures, training logs. Out: figures/, gallery/, sheets/, report/, provenance.json.
# What `snakemake --report` shows is flagged here, each with a caption from report/.

FIGURES = [
    "finetune",
    "refinement",
    "hard_prompts",
    "by_category",
    "guide_judge_fidelity",
    "training",
    *JUDGED,
]

# Name of a sheet: its model, arm and round.
SHEETS = {model: (model, "", 0) for model in MODELS} | {
    f"{model}-{arm}-{number}": (model, arm, number)
    for model in (CONFIG["refine"]["models"] if ARMS else [])
    for arm in ARMS
    for number in range(1, ROUNDS + 1)
}

# Tables that get a page.
PAGED = [*TABLES, *(["sweep"] if SWEPT else []), *JUDGED]


rule figures:
    """Draw the figures from the tables and training logs."""
    input:
        tables=rules.tables.output,
        judged=rules.judges.output if JUDGED else [],
        training=expand(f"{OUT}/training/{{model}}/log.csv", model=MODELS[1:]),
    output:
        [
            report(
                f"{OUT}/figures/{figure}.{form}",
                caption=caption("figures", figure),
                category="Figures",
                labels={"figure": in_words(figure), "format": form.upper()},
            )
            for figure in FIGURES
            for form in ("svg", "png")
        ],
    log:
        f"{OUT}/logs/figures.log",
    conda:
        "../envs/tables.yaml"
    threads: need("figures", "threads")
    resources:
        mem_mb=memory("figures"),
        runtime=need("figures", "runtime"),
        gpu=0,
    params:
        settings=settings(
            {"confidence": CONFIG["statistics"]["confidence"]}
            | ({"further": JUDGED} if JUDGED else {})
        ),
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
        judges=JUDGE_SCORES,
        samples=(
            expand(f"{OUT}/training/{{model}}/samples/metadata.jsonl", model=MODELS[1:])
            if SAMPLES
            else []
        ),
        templates=[
            os.path.relpath(SCRIPTS / "vlg/report/templates" / f"gallery.{kind}")
            for kind in ("html", "css", "js")
        ],
    output:
        page=f"{OUT}/gallery/index.html",
        parts=report(
            directory(f"{OUT}/gallery/pages"),
            patterns=["{prompts}.html"],
            caption="../report/gallery.rst",
            category="Gallery",
            labels={"prompts": "{prompts}"},
        ),
    log:
        f"{OUT}/logs/gallery.log",
    conda:
        "../envs/tables.yaml"
    threads: need("gallery", "threads")
    resources:
        mem_mb=memory("gallery"),
        runtime=need("gallery", "runtime"),
        gpu=0,
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
        judges=lambda wildcards, input: judged_options(input),
        root=lambda wildcards: OUT,
        out=subpath(output[0], parent=True),
    shell:
        python("gallery") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " --hard {input.hard:q} --scores {input.scores:q} --root {params.root:q} --out {params.out:q}"
        " {params.judges:q} --log {log:q}"


rule sheets:
    """Show what each model and each round makes of the same few prompts, one sheet each."""
    input:
        prompts=rules.prompts.output[0],
        scores=score_files(),
    output:
        [
            report(
                f"{OUT}/sheets/{name}.jpg",
                caption="../report/sheet.rst",
                category="Pictures",
                subcategory="Refinement" if row[1] else "Models",
                labels=sheet_labels(*row),
            )
            for name, row in SHEETS.items()
        ],
    log:
        f"{OUT}/logs/sheets.log",
    conda:
        "../envs/tables.yaml"
    threads: need("sheets", "threads")
    resources:
        mem_mb=memory("sheets"),
        runtime=need("sheets", "runtime"),
        gpu=0,
    params:
        settings=settings({"sheets": SHEETS}),
        code=code("sheets"),
        root=lambda wildcards: OUT,
        out=subpath(output[0], parent=True),
    shell:
        python("sheets") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " --scores {input.scores:q} --root {params.root:q} --out {params.out:q} --log {log:q}"


rule pages:
    """Make each table a page to sort, search and copy, and say what the claims came to."""
    input:
        tables=[
            report(
                f"{OUT}/tables/{table}.{form}",
                caption=caption("tables", table),
                category="Tables to paste",
                labels={"table": in_words(table), "format": title},
            )
            for table in PAGED
            for form, title in (("csv", "CSV"), ("md", "Markdown"), ("tex", "LaTeX"))
        ],
        template=os.path.relpath(SCRIPTS / "vlg/report/templates/table.html"),
    output:
        [
            report(
                f"{OUT}/report/{table}.html",
                caption=caption("tables", table),
                category="Tables",
                labels={"table": in_words(table)},
            )
            for table in PAGED
        ],
        f"{OUT}/report/findings.html",
    log:
        f"{OUT}/logs/pages.log",
    conda:
        "../envs/tables.yaml"
    threads: need("pages", "threads")
    resources:
        mem_mb=memory("pages"),
        runtime=need("pages", "runtime"),
        gpu=0,
    params:
        settings=settings({"names": PAGED}),
        code=code("pages"),
        tables=lambda wildcards, input: os.path.dirname(input.tables[0]),
        out=subpath(output[0], parent=True),
    shell:
        python("pages") + " --settings {params.settings:q} --tables {params.tables:q}"
        " --out {params.out:q} --log {log:q}"


rule provenance:
    """Record versions, commit, config, checksums, hardware and cost."""
    input:
        models=expand(f"{OUT}/models/{{model}}/manifest.json", model=[*RUNS, "guide", "judge"]),
        downloads=[download(what) for what in hub_sources()],
        training=expand(f"{OUT}/training/{{model}}/summary.json", model=RUNS[1:]),
        inputs=[
            rules.prompts.output[0],
            rules.hard_prompts.output[0],
            f"{OUT}/dataset/manifest.json",
        ],
        scores=score_files(),
        tables=rules.tables.output,
    output:
        report(
            f"{OUT}/provenance.json",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"file": "provenance.json"},
        ),
    log:
        f"{OUT}/logs/provenance.log",
    conda:
        "../envs/tables.yaml"
    threads: need("provenance", "threads")
    resources:
        mem_mb=memory("provenance"),
        runtime=need("provenance", "runtime"),
        gpu=0,
    params:
        settings=settings(CONFIG),
        code=code("provenance"),
        logs=lambda wildcards: f"{OUT}/logs",
    shell:
        python("provenance") + " --settings {params.settings:q} --models {input.models:q}"
        " --downloads {input.downloads:q} --inputs {input.inputs:q} --logs {params.logs:q}"
        " --training {input.training:q} --scores {input.scores:q} --tables {input.tables:q}"
        " --out {output:q} --log {log:q}"


rule card:
    """Describe a fine-tuned model in the form of the Hugging Face Hub."""
    input:
        model=f"{OUT}/models/{{variant}}-{{step}}{{run}}/manifest.json",
        training=f"{OUT}/training/{{variant}}-{{step}}{{run}}/summary.json",
        table=f"{OUT}/tables/finetune.csv",
    output:
        f"{OUT}/models/{{variant}}-{{step}}{{run}}/README.md",
    log:
        f"{OUT}/logs/card/{{variant}}-{{step}}{{run}}.log",
    conda:
        "../envs/models.yaml"
    threads: need("card", "threads")
    resources:
        mem_mb=memory("card"),
        runtime=need("card", "runtime"),
        gpu=0,
    params:
        settings=settings(
            {
                "study": CONFIG["study"],
                "base": known_as(CONFIG["models"]["base"]),
                "judge": known_as(CONFIG["models"]["judge"]),
                "dataset": known_as(CONFIG["dataset"]["source"]),
                "confidence": CONFIG["statistics"]["confidence"],
            }
        ),
        code=code("card"),
    shell:
        python("card") + " --settings {params.settings:q} --table {input.table:q}"
        " --training {input.training:q} --out {output:q} --log {log:q}"
