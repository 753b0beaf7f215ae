# What rules/refine.smk asks of the config and of the wildcards of a job.


def arm_needs(wildcards):
    """What an arm works with, of guide, pictures and base."""
    return ARMS[wildcards.arm].needs


def refine_guide(wildcards):
    """The guide, for an arm that is guided."""
    name = ARMS[wildcards.arm].settings.guide
    guided = "guide" in arm_needs(wildcards)
    return LAYOUT.model(guides.folder(CONFIG, name)) if guided else []


def refine_base(wildcards):
    """The base, for an arm that draws with it beside the model."""
    return LAYOUT.model("base") if "base" in arm_needs(wildcards) else []


def refine_prompts(wildcards):
    """The prompts, for an arm that draws from noise alone."""
    return [] if "pictures" in arm_needs(wildcards) else LAYOUT.prompts


def refine_start(wildcards):
    """The metadata files among which the pictures are that one shard of an arm begins with."""
    if "pictures" not in arm_needs(wildcards):
        return []
    size = CONFIG["generate"]["shard_size"]
    first = int(wildcards.shard) * size
    last = min(first + size, STUDY * len(CONFIG["seeds"]["selection"])) - 1
    begin, end = (study_place(wildcards.model, number) // size for number in (first, last))
    return study_images(wildcards.model)[begin : end + 1]


def refine_bundles(wildcards):
    """The folders that an arm reads, where they come as bundles."""
    models = [file for file in (refine_guide(wildcards), refine_base(wildcards)) if file]
    return bundles(LAYOUT.model(wildcards.model), *models, *refine_start(wildcards))


def refine_skip(wildcards):
    """How many of the study pictures in those files belong to an earlier shard of the arm."""
    size = CONFIG["generate"]["shard_size"]
    first = int(wildcards.shard) * size
    begin = study_place(wildcards.model, first) // size * size
    return sum(study_place(wildcards.model, n) >= begin for n in range(max(0, first - size), first))


def refine_options(wildcards, input):
    """What not every arm begins with, as words of a command line."""
    models = [
        word
        for name in ("guide", "base")
        if input.get(name)
        for word in (f"--{name}", layout.folder(input.get(name)))
    ]
    if input.start:
        start = ["--start", *folders(input.start), "--skip", str(refine_skip(wildcards))]
    else:
        start = ["--prompts", input.prompts]
    return [*models, *start]


def refine_settings(wildcards):
    """How an arm draws, and which pictures. More rounds change nothing of those there are."""
    arm = ARMS[wildcards.arm]
    alone = "pictures" not in arm_needs(wildcards)
    return settings(
        {
            "sampling": plan.sampling(CONFIG),
            "model": wildcards.model,
            "arm": wildcards.arm,
            "kind": arm.kind,
            "keys": arm.settings.handed_on(),
            "shard": int(wildcards.shard),
            "shard_size": CONFIG["generate"]["shard_size"],
            **({"seeds": CONFIG["seeds"]["selection"]} if alone else {}),
        }
    )


def refine_code(wildcards):
    """The code of the kind of arm, of the family and of what looks; no other kind's."""
    arm = ARMS[wildcards.arm]
    looks = guide_code(arm.settings.guide) if "guide" in arm.needs else []
    return code("refine", (plugins.ARMS, arm.kind), FAMILY, *looks)


def rounds(arm):
    """The numbers of an arm's rounds."""
    return range(1, ARMS[arm].rounds + 1)


def refined(model, arm, numbers=None):
    """The metadata files of some rounds of an arm, all by default."""
    number = STUDY * len(CONFIG["seeds"]["selection"])
    size = CONFIG["generate"]["shard_size"]
    return [
        LAYOUT.refined(model, each, arm, shard)
        for each in numbers or rounds(arm)
        for shard in layout.shards(number, size)
    ]


def all_pictures():
    """The metadata files of every picture folder. The whole study asks for them by name, because
    Snakemake makes a deleted file again only when something that is wanted needs it."""
    plain = [images(model, stage) for model in RUNS for stage in stages(model)]
    held = [LAYOUT.reference(reference) for reference in REFERENCES]
    return sum([*plain, *(refined(*each) for each in REFINED)], held)
