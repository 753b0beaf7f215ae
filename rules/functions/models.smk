# What rules/models.smk asks of the config and of the wildcards of a job.


def model_bundles(wildcards):
    """A model that another job of the study made, where it comes as a bundle."""
    source = model_source(wildcards)
    return bundles(source) if source.startswith(f"{OUT}/") else []


def model_code(wildcards):
    """A checkpoint in one file is read as its family says."""
    one = wildcards.kind == "base" and model_source(wildcards).endswith(".safetensors")
    return code("model", *([FAMILY] if one else []))


def guide_to_differ_from(wildcards):
    """The guides, for a judge that can be compared with them only after a download.

    Local folders are compared before the study starts (vlg.config.checks).
    """
    fetched = [what for what in hub_sources() if what == "judge" or what.startswith("guide")]
    if wildcards.kind != "judge" or not fetched:
        return []
    used = [guide for guide in used_guides() if guide not in CONTROL_GUIDES]
    return [LAYOUT.model(guide) for guide in dict.fromkeys(["guide", *used])]


def used_guides():
    """The folders below models/ of the entries of `guides` that something follows."""
    named = {guides.folder(CONFIG, arm.settings.guide) for arm in ARMS.values()}
    named |= {VARIANTS[layout.parse_model(model).variant].guide for model in [*CHECKPOINTS, *SWEPT]}
    found, more = set(), {"guide", *named}
    while more:
        found |= more
        more = {folder for guide in more for folder in guides_inside(guide)} - found
    return [guide for guide in GUIDES if guide in found]


# The controls among guides, which have a rule of their own.
CONTROL_GUIDES = [guide for guide, settings in GUIDES.items() if settings.control]


def guides_inside(guide):
    """The folders below models/ of the guides that one is made of."""
    made = GUIDES.get(guide)
    return [guides.folder(CONFIG, name) for name in guides.inside(made)] if made else []


def shuffled_guide(wildcards):
    """The guide that a control shows other texts, if it does."""
    return [LAYOUT.model(guide) for guide in guides_inside(wildcards.guide)]


def shuffled_data(wildcards):
    """The data whose captions these are."""
    return [LAYOUT.dataset] if guides_inside(wildcards.guide) else []


def control_bundles(wildcards):
    """What a control is made from, where it comes as bundles."""
    return bundles(*shuffled_guide(wildcards), *shuffled_data(wildcards))


def control_options(wildcards, input):
    """What not every control is made from, as words of a command line."""
    given = {"guide": input.guide, "data": input.data}
    return [word for name, file in given.items() if file for word in (f"--{name}", *folders(file))]


def looks(wildcards):
    """The kinds of judges by which the guide of a job looks."""
    guide = dict(wildcards).get("guide")
    return guide_code(guide and guide_entry(wildcards))


def guide_entry(wildcards):
    """The name of the entry of `guides` that a folder is of."""
    return next(n for n in CONFIG["guides"] if guides.folder(CONFIG, n) == wildcards.guide)


def guide_source(wildcards):
    """The files by which Snakemake knows the model of a guide, or those of its members."""
    settings = GUIDES[wildcards.guide]
    if settings.members:
        return [LAYOUT.model(guides.folder(CONFIG, name)) for name in settings.members]
    if hub.parse(settings.source):
        return [LAYOUT.download(f"guide_{guide_entry(wildcards)}")]
    if settings.source == plan.SHAPES:
        return [shapes_source("guide", settings.source)]
    return [given(f"{settings.source}/{judge_kind.find(settings.kind).mark}")]


def guide_bundles(wildcards):
    """What of that another job of the study made, where it comes as bundles."""
    return bundles(*(file for file in guide_source(wildcards) if file.startswith(f"{OUT}/")))


def is_shipped_guide(wildcards):
    """Whether the model of a guide comes with the pipeline."""
    return GUIDES[wildcards.guide].source == plan.SHAPES and not CONFIG["models"]["rebuild"]


def compared_model(name):
    """What an entry of models.compare is, or changes: a source; none for the study's own base."""
    return COMPARED[name].source or COMPARED[name].base


def compared_source(wildcards):
    """The file by which Snakemake knows that model."""
    source = compared_model(wildcards.model)
    if source is None:
        return LAYOUT.model("base")
    if hub.parse(source):
        return LAYOUT.download(f"compare_{wildcards.model}")
    if source.endswith(".safetensors"):
        return given(source)
    if source in plan.EMBEDDED["base"]:
        return shapes_source("base", source)
    return given(f"{source}/{MARK['base']}")


def compared_bundles(wildcards):
    """What of that another job of the study made, where it comes as bundles."""
    files = [LAYOUT.model("base"), compared_source(wildcards)]
    return bundles(*dict.fromkeys(file for file in files if file.startswith(f"{OUT}/")))


def is_shipped_compared(wildcards):
    """Whether that model comes with the pipeline."""
    known = compared_model(wildcards.model) in plan.EMBEDDED["base"]
    return known and not CONFIG["models"]["rebuild"]


def compared_settings(wildcards):
    """Which model, and by which its LoRAs count."""
    own, source = COMPARED[wildcards.model], compared_model(wildcards.model)
    if source in plan.EMBEDDED["base"]:
        source = f"base{source.removeprefix(plan.SHAPES)}"
    values = {"name": wildcards.model, "source": source or "base", "scales": own.scales}
    family = own.family or CONFIG["models"]["family"]
    return settings({**values, "family": family})
