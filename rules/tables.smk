# In: scores, prompts, training summaries. Out: tables/<table>.csv, .md, .tex and report/<table>.html.
# A table is a file of scripts/vlg/analysis/tables/; its NEEDS are its inputs.

# What a table may ask for (vlg.analysis.table.NEEDED), and of what it is made in this study; an
# empty list is what the study does not have.
TABLE_INPUTS = {
    "scores": {"prompts": [LAYOUT.prompts], "scores": plain_score_files()},
    "refined": {"scores": [LAYOUT.refined_scores(model, arm) for model in REFINED for arm in ARMS]},
    "hard": {"hard": [LAYOUT.hard_prompts]},
    "training": {"training": [LAYOUT.training(model, "summary.json") for model in RUNS[1:]]},
    "judges": {"judges": [LAYOUT.judge_scores(j, m) for j in CONFIG["judges"] for m in RUNS]},
    "diversity": {"diversity": [LAYOUT.diversity] if CONFIG["score"]["diversity"] else []},
    "samples": {
        "prompts": [LAYOUT.development] if SWEPT else [],
        "scores": [LAYOUT.sample_scores(model) for model in SWEPT],
        "training": [LAYOUT.training(model, "summary.json") for model in SWEPT],
    },
}


def table_says(table, what, default=None):
    """A literal at the top of a table's file; nothing of it is imported."""
    return plugins.constant(plugins.TABLES, table, what, default)


def is_made(table):
    """Whether the study has what a table is about; a need that is none ends the run."""
    about = table_says(table, "WHEN")
    for need in (*table_says(table, "NEEDS", ()), *([about] if about else [])):
        if need not in TABLE_INPUTS:
            file, known = plugins.file(plugins.TABLES, table), ", ".join(TABLE_INPUTS)
            sys.exit(f"error: {file}: no table can need {need!r}; there are {known}")
    return about is None or any(TABLE_INPUTS[about].values())


def table_input(name):
    """The files that a table needs of one kind (prompts, scores, ...)."""

    def files(wildcards):
        needs = table_says(wildcards.table, "NEEDS", ())
        return [file for need in needs for file in TABLE_INPUTS[need].get(name, [])]

    return files


def table_options(wildcards, input):
    """The files that not every table needs, as words of a command line."""
    names = ("hard", "training", "judges", "diversity")
    return [word for name in names if input.get(name) for word in (f"--{name}", *input.get(name))]


def in_words(name):
    """A name as people read it: hard_prompts is hard prompts."""
    return name.replace("_", " ")


def caption(kind, name):
    """The caption in the report of a figure or table; one for all that have none of their own."""
    own = f"report/{kind}/{name}.rst"
    return f"../{own}" if (ROOT / own).exists() else f"../report/{kind.removesuffix('s')}.rst"


TABLES = sorted(
    filter(is_made, plugins.names(plugins.TABLES)), key=lambda name: table_says(name, "ORDER", 99)
)


rule tables:
    """Every table, with its page; no model is loaded."""
    input:
        [
            report(
                LAYOUT.page(table),
                caption=caption("tables", table),
                category="Tables",
                labels={"table": in_words(table)},
            )
            for table in TABLES
        ],
        [
            report(
                LAYOUT.table(table, form),
                caption=caption("tables", table),
                category="Tables to paste",
                labels={"table": in_words(table), "format": title},
            )
            for table in TABLES
            for form, title in (("csv", "CSV"), ("md", "Markdown"), ("tex", "LaTeX"))
        ],


rule table:
    """Make one table from cached scores, and a page to sort, search and copy it."""
    input:
        prompts=table_input("prompts"),
        scores=table_input("scores"),
        hard=table_input("hard"),
        training=table_input("training"),
        judges=table_input("judges"),
        diversity=table_input("diversity"),
        templates=[
            os.path.relpath(SCRIPTS / "vlg/report/templates" / name)
            for name in ("table.html", "table.js")
        ],
    output:
        [LAYOUT.table("{table}", form) for form in ("csv", "md", "tex")],
        page=LAYOUT.page("{table}"),
    log:
        LAYOUT.log("table", "{table}"),
    wildcard_constraints:
        table="|".join(TABLES),
    conda:
        "../envs/tables.yaml"
    threads: threads_of("table")
    resources:
        **needs("table"),
    params:
        settings=settings(
            {
                **CONFIG["statistics"],
                "published": CONFIG["published"],
                "models": MODELS,
                "train_seeds": TRAIN_SEEDS,
            }
        ),
        code=lambda wildcards: code("table", (plugins.TABLES, wildcards.table)),
        options=table_options,
        root=lambda wildcards: OUT,
        out=subpath(output[0], parent=True),
    shell:
        python("table") + " {wildcards.table} --settings {params.settings:q}"
        " --prompts {input.prompts:q} --scores {input.scores:q} {params.options:q}"
        " --root {params.root:q} --out {params.out:q} --page {output.page:q} --log {log:q}"
