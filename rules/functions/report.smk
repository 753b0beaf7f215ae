# What rules/report.smk asks of the config and of the wildcards of a job.


def known_as(source):
    """What the Hub calls a source: owner/name, without our prefix and the revision."""
    found = hub.parse(source) if source else None
    return found.id if found else source


def sheet_labels(model, arm, number):
    """What the report calls a contact sheet. It sorts labels as text: blanks keep 20 before 100."""
    if model in REFERENCES:
        return {"model": model, "step": ""}
    name = layout.parse_model(model)
    labels = {"model": name.variant, "step": str(name.step).rjust(7)}
    return labels | ({"arm": in_words(arm), "round": str(number).rjust(3)} if arm else {})


def sheet_group(model, arm, number):
    """Under which heading the report shows a contact sheet."""
    return "Refinement" if arm else "For scale" if model in REFERENCES else "Models"


def cards():
    """The card of every fine-tuned model."""
    return [LAYOUT.card(model) for model in CHECKPOINTS]


def figure_needs(figure):
    """The tables that a figure draws, and `logs` where it draws those of training."""
    return plugins.constant(plugins.FIGURES, figure, "NEEDS", ())


def figure_tables(figure):
    """The tables that a figure draws."""
    return [need for need in figure_needs(figure) if need != "logs"]


# Every figure of whose tables the study has all.
FIGURES = [
    figure for figure in plugins.names(plugins.FIGURES) if set(figure_tables(figure)) <= set(TABLES)
]

# Name of a sheet: its model, arm and round.
SHEETS = {row: (row, "", 0) for row in ROWS} | {
    f"{model}-{arm}-{number}": (model, arm, number)
    for model, arm in REFINED
    if model in MODELS
    for number in rounds(arm)
}
SHEETS |= {reference: (reference, "", 0) for reference in REFERENCES}


def shown_bundles():
    """The pictures that pages and sheets show, where they come as bundles."""
    drawn = [LAYOUT.training(model) for model in TUNED] if SAMPLES else []
    return bundles(*all_pictures(), *drawn)


def records():
    """What the jobs before the record said of themselves, where their logs are not at hand."""
    said = [("model", kind) for kind in given_models() if kind not in GUIDES]
    said += [("guide", guide) for guide in used_guides()] + [("prompts",)]
    said += [("dataset",)] if CHECKPOINTS else []
    said += [("fetch", what) for what in used_sources()]
    said += [("hard_prompts",)] if HAS_BASE else []
    trained = [VARIANTS[layout.parse_model(model).variant] for model in CHECKPOINTS]
    said += [("encode",)] if any("pixels" not in each.needs for each in trained) else []
    said += sorted(
        {
            ("encode_guide", *([v.guide] if v.guide != guides.GUIDE else []))
            for v in trained
            if {"guide", "pairs"} & v.needs
        }
    )
    said += [("pairs", digest) for digest in PAIRS]
    said += [("development",)] if SAMPLES and CHECKPOINTS else []
    said += [("finetune", model) for model in CHECKPOINTS]
    said += [
        ("generate", model, f"{stage}-{shard}")
        for model in RUNS
        for stage in stages(model)
        for shard in shards(model, stage)
    ]
    said += [("score", "images", f"{model}-{stage}") for model in RUNS for stage in stages(model)]
    said += [("score", "refined", f"{model}-{arm}") for model, arm in REFINED]
    said += [("compared", name) for name in COMPARED]
    said += [("pictures", name) for name in SETS]
    said += [("score", "images", f"{name}-final") for name in SETS]
    said += [("reference", name) for name in REFERENCES]
    said += [("score", "references")] if REFERENCES else []
    said += [("table", table) for table in TABLES]
    return [layout.record(LAYOUT.log(*parts)) for parts in said] if APART else []


def given_models():
    """The models that the study starts from."""
    return ["base", "guide", "judge"] if HAS_BASE else ["judge"]


def evaluated():
    """The files of a study in which nothing is trained."""
    if VARIANTS:
        sys.exit(
            "error: finetune.variants: evaluate trains nothing, and there is "
            f"{next(iter(VARIANTS))}; remove it (null), or run the study"
        )
    return everything()


def everything():
    """The files of the whole study."""
    parts = [rules.tables.input, rules.figures.input, rules.gallery.output, rules.sheets.output]
    parts += [rules.findings.output] if HAS_BASE else []
    parts += [rules.provenance.output, all_pictures(), cards()]
    return [file for part in parts for file in part]
