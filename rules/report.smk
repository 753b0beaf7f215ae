# In: tables, pictures, training logs. Out: figures/, gallery/, sheets/, report/findings.html,
# provenance.json, models/<model>/README.md. A figure is a file of scripts/vlg/report/figures/.
# What `snakemake --report` shows is flagged here, each with a caption from report/.


include: "functions/report.smk"


rule figures:
    """Every figure."""
    input:
        [
            report(
                LAYOUT.figure(figure, form),
                caption=caption("figures", figure),
                category="Figures",
                labels={"figure": in_words(figure), "format": form.upper()},
            )
            for figure in FIGURES
            for form in ("svg", "png")
        ],


rule figure:
    """Draw one figure from the tables, or the training logs, that it shows."""
    input:
        tables=lambda wildcards: [
            LAYOUT.table(table, "csv") for table in figure_tables(wildcards.figure)
        ],
        training=lambda wildcards: [
            LAYOUT.training(model, "log.csv")
            for model in TUNED
            if "logs" in figure_needs(wildcards.figure)
        ],
    output:
        [LAYOUT.figure("{figure}", form) for form in ("svg", "png")],
        rest(
            LAYOUT.log("figure", "{figure}"),
            *(LAYOUT.figure("{figure}", form) for form in ("svg", "png")),
        ),
    log:
        LAYOUT.log("figure", "{figure}"),
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("figure")
    resources:
        **needs("figure"),
    params:
        settings=settings({"confidence": CONFIG["statistics"]["confidence"]}),
        code=lambda wildcards: code("figure", (plugins.FIGURES, wildcards.figure)),
        tables=here(layout.folder(LAYOUT.table("finetune", "csv"))),
        out=subpath(output[0], parent=True),
    shell:
        python("figure") + " {wildcards.figure} --settings {params.settings:q}"
        " --tables {params.tables:q} --training {input.training:q} --out {params.out:q} --log {log:q}"


rule gallery:
    """Show the same prompts across models and rounds on one page."""
    input:
        prompts=LAYOUT.prompts,
        hard=[LAYOUT.hard_prompts] if HAS_BASE else [],
        scores=score_files(),
        judges=TABLE_INPUTS["judges"]["judges"],
        samples=[LAYOUT.samples(model) for model in TUNED] if SAMPLES else [],
        templates=templates("gallery.html", "gallery.css", "gallery.js"),
        bundles=shown_bundles(),
    output:
        rest(LAYOUT.log("gallery"), LAYOUT.gallery),
        page=LAYOUT.gallery,
        parts=report(
            directory(f"{layout.folder(LAYOUT.gallery)}/pages"),
            patterns=["{prompts}.html"],
            caption="../report/gallery.rst",
            category="Gallery",
            labels={"prompts": "{prompts}"},
        ),
    log:
        LAYOUT.log("gallery"),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("gallery")
    resources:
        **needs("gallery"),
    params:
        settings=settings(
            {
                "study": CONFIG["study"],
                "prompts": CONFIG["gallery"]["prompts"],
                "models": ROWS,
                **({"sets": [*SETS]} if SETS else {}),
            }
        ),
        code=code("gallery"),
        hard=lambda wildcards, input: ["--hard", *input.hard] if input.hard else [],
        judges=lambda wildcards, input: (
            ["--judges", *dict.fromkeys(folders(input.judges))] if input.judges else []
        ),
        root=lambda wildcards: here(OUT),
        out=subpath(output.page, parent=True),
    shell:
        python("gallery") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " {params.hard:q} --scores {input.scores:q} --root {params.root:q} --out {params.out:q}"
        " {params.judges:q} --log {log:q}"


rule sheets:
    """Show what each model and each round makes of the same few prompts, one sheet each."""
    input:
        prompts=LAYOUT.prompts,
        scores=score_files(),
        bundles=shown_bundles(),
    output:
        [
            report(
                LAYOUT.sheet(name),
                caption="../report/sheet.rst",
                category="Pictures",
                subcategory=sheet_group(*row),
                labels=sheet_labels(*row),
            )
            for name, row in SHEETS.items()
        ],
        # The folder's own record; a bundle would hold the sheets again.
        rest(LAYOUT.log("sheets")),
        [f"{layout.folder(LAYOUT.sheet('any'))}/{layout.MANIFEST}"] if APART else [],
    log:
        LAYOUT.log("sheets"),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("sheets")
    resources:
        **needs("sheets"),
    params:
        settings=settings({"sheets": SHEETS, **({"sets": [*SETS]} if SETS else {})}),
        code=code("sheets"),
        root=lambda wildcards: here(OUT),
        out=subpath(output[0], parent=True),
    shell:
        python("sheets") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " --scores {input.scores:q} --root {params.root:q} --out {params.out:q} --log {log:q}"


rule findings:
    """Say what the claims came to, for the first page of the report."""
    input:
        claims=LAYOUT.table("claims", "csv"),
        template=templates("findings.html"),
    output:
        LAYOUT.page("findings"),
        rest(LAYOUT.log("findings"), LAYOUT.page("findings")),
    log:
        LAYOUT.log("findings"),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("findings")
    resources:
        **needs("findings"),
    params:
        code=code("findings"),
    shell:
        writing_one(
            python("findings") + " --claims {input.claims:q} --out {output:q} --log {log:q}"
        )


# The commit, and what has been changed since, are known where Snakemake was started.
if APART:

    localrules:
        provenance,


rule provenance:
    """Record versions, commit, config, checksums, hardware and cost."""
    input:
        models=[
            LAYOUT.model(model)
            for model in dict.fromkeys([*RUNS, *given_models(), *used_guides()])
        ],
        downloads=[LAYOUT.download(what) for what in used_sources()],
        training=[LAYOUT.training(model, "summary.json") for model in CHECKPOINTS],
        inputs=[
            LAYOUT.prompts,
            *([LAYOUT.hard_prompts] if HAS_BASE else []),
            *([LAYOUT.dataset] if CHECKPOINTS else []),
        ],
        scores=score_files(),
        tables=[LAYOUT.table(table, form) for table in TABLES for form in ("csv", "md", "tex")],
        records=records(),
    output:
        report(
            LAYOUT.provenance,
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"file": "provenance.json"},
        ),
        rest(LAYOUT.log("provenance"), LAYOUT.provenance),
    log:
        LAYOUT.log("provenance"),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("provenance")
    resources:
        **needs("provenance"),
    params:
        settings=lambda wildcards: settings(CONFIG),  # it may hold patterns in braces
        code=code("provenance"),
        logs=here(f"{OUT}/records" if APART else layout.folder(LAYOUT.log("any"))),
    shell:
        writing_one(
            python("provenance") + " --settings {params.settings:q} --models {input.models:q}"
            " --downloads {input.downloads:q} --inputs {input.inputs:q} --logs {params.logs:q}"
            " --training {input.training:q} --scores {input.scores:q} --tables {input.tables:q}"
            " --out {output:q} --log {log:q}"
        )


rule card:
    """Describe a fine-tuned model in the form of the Hugging Face Hub."""
    input:
        model=LAYOUT.model("{variant}-{step}{run}"),
        training=LAYOUT.training("{variant}-{step}{run}", "summary.json"),
        table=LAYOUT.table("finetune", "csv"),
    output:
        LAYOUT.card("{variant}-{step}{run}"),
        rest(LAYOUT.log("card", "{variant}-{step}{run}"), LAYOUT.card("{variant}-{step}{run}")),
    log:
        LAYOUT.log("card", "{variant}-{step}{run}"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("card")
    resources:
        **needs("card"),
    params:
        settings=settings(
            {
                "study": CONFIG["study"],
                "base": known_as(CONFIG["models"]["base"]),
                "judge": known_as(CONFIG["models"]["judge"]),
                "dataset": known_as(CONFIG["dataset"]["source"]),
                "confidence": CONFIG["statistics"]["confidence"],
                **plan.family(CONFIG),
            }
        ),
        code=code("card"),
    shell:
        writing_one(
            python("card") + " --settings {params.settings:q} --table {input.table:q}"
            " --training {input.training:q} --out {output:q} --log {log:q}"
        )


rule evaluate:
    """Compare what is finished; a config that would train something is refused."""
    input:
        lambda wildcards: evaluated(),
