# What rules/tables.smk asks of the config and of the wildcards of a job.


LADDERS = plan.ladders(CONFIG)
# Variants and arms that draw the study's prompts; members of sweeps do not.
DRAWING = {(True, layout.parse_model(model).variant) for model in TUNED}
DRAWING |= {(False, arm) for _, arm in REFINED}
CONTROLS = [each for each in plan.controls(CONFIG) if (each["variant"], each["name"]) in DRAWING]

# What a table may ask for (vlg.analysis.table.NEEDED), and of what it is made in this study; an
# empty list is what the study does not have.
TABLE_INPUTS = {
    "base": {"models": [LAYOUT.model("base")] if HAS_BASE else []},
    "pictures": {"pictures": [file for name in SETS for file in images(name, "final")]},
    "scores": {
        "prompts": [LAYOUT.prompts],
        "scores": plain_score_files(),
        "models": [LAYOUT.model(name) for name in COMPARED],
    },
    "refined": {"scores": [LAYOUT.refined_scores(*each) for each in REFINED]},
    "references": {"scores": reference_score_files()},
    "hard": {"hard": [LAYOUT.hard_prompts] if HAS_BASE else []},
    "training": {"training": [LAYOUT.training(model, "summary.json") for model in CHECKPOINTS]},
    "judges": {
        "judges": [LAYOUT.judge_scores(j, m) for j in CONFIG["judges"] for m in [*RUNS, *SETS]]
    },
    "diversity": {"diversity": [LAYOUT.diversity] if CONFIG["score"]["diversity"] else []},
    "samples": {
        "prompts": [LAYOUT.development] if SWEPT else [],
        "scores": [LAYOUT.sample_scores(model) for model in SWEPT],
        "training": [LAYOUT.training(model, "summary.json") for model in SWEPT],
    },
    "ratings": {"ratings": [f if f in ASKED else given(f) for f in [CONFIG["ratings"]] if f]},
    # No files: scores of these are among the others.
    "ladders": {"names": [*LADDERS]},
    "controls": {"names": [each["name"] for each in CONTROLS]},
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


def page_parts(wildcards):
    """What the page of a table is made from; the program of a chart has the table's name."""
    chart = f"{wildcards.table}.js"
    own = [chart] if (SCRIPTS / "vlg/report/templates" / chart).exists() else []
    return templates("table.html", "table.js", *own)


def table_settings(wildcards):
    """What a table depends on beside its inputs. Of arms it is told those whose samples the number
    of their rounds does not tell, if there are some and it is about arms."""
    values = {
        **CONFIG["statistics"],
        "published": CONFIG["published"],
        "models": ROWS,
        "train_seeds": TRAIN_SEEDS,
        **({"sets": [*SETS]} if SETS else {}),
    }
    uncounted = [name for name, arm in ARMS.items() if not arm.one_a_round]
    if uncounted and "refined" in table_says(wildcards.table, "NEEDS", ()):
        values["uncounted"] = uncounted
    if CONTROLS:
        values["controls"] = CONTROLS
    if "ladders" in table_says(wildcards.table, "NEEDS", ()):
        values["ladders"] = LADDERS
    return settings(values)


def table_options(wildcards, input):
    """The files that not every table needs, as words of a command line."""
    names = "hard training judges diversity models ratings pictures".split()
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
