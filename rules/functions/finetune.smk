# What rules/finetune.smk asks of the config and of the wildcards of a job.


TRAINED = "{variant}-{step}{run}"


def previous(wildcards):
    """The checkpoint that this one continues: the next smaller step of the same variant."""
    earlier = [step for step in STEPS if step < int(wildcards.step)]
    model = f"{wildcards.variant}-{earlier[-1]}{wildcards.run}" if earlier else ""
    return LAYOUT.training(model) if earlier else []


def finetune_settings(wildcards):
    """The variant's settings, and from which step to which."""
    step, seed = int(wildcards.step), int(wildcards.run.removeprefix("-s") or TRAIN_SEEDS[0])
    start = max((each for each in STEPS if each < step), default=0)
    return settings(VARIANTS[wildcards.variant].handed_on(step, start, seed))


def finetune_code(wildcards):
    """The code of the variant's method and of the family, what watches the guide and what stops
    early where that is wanted, and what the settings name; no other method's."""
    variant = VARIANTS[wildcards.variant]
    wanted = {"watch": variant.settings.watch_guide, "stop": variant.settings.stop_judge}
    chosen = [("train", name) for name, on in wanted.items() if on] + variant.settings.found()
    looks = guide_code(guide_name(variant.guide)) if "guide" in variant.needs else []
    return code("finetune", (plugins.METHODS, variant.method), FAMILY, *chosen, *looks)


def guide_name(guide):
    """The name of a guide by its folder below models/; None for that of the study."""
    return None if guide == guides.GUIDE else guide.removeprefix(f"{guides.GUIDE}_")


def development_data():
    """The pictures whose held-out captions are the development prompts, if they are."""
    made = CONFIG["development"]["prompts"] or CONFIG["prompts"]["source"] == plan.SHAPES
    return [] if made else LAYOUT.dataset


def development_settings():
    """Which development prompts."""
    chosen = CONFIG["development"]
    values = {name: chosen[name] for name in ("count", "prompts")}
    return settings({**values, "seed": CONFIG["prompts"]["seed"]})


def guide(wildcards):
    """The guide and what it says of the data set, where a variant needs them."""
    variant = VARIANTS[wildcards.variant]
    made = [LAYOUT.model(variant.guide), LAYOUT.embeddings_of(variant.guide)]
    return made if "guide" in variant.needs else []


def training_data(wildcards):
    """The encoded data set, or the pictures for a variant that needs pixels."""
    return LAYOUT.dataset if "pixels" in VARIANTS[wildcards.variant].needs else LAYOUT.latents


def finetune_bundles(wildcards):
    """The folders that a fine-tuning reads, where they come as bundles."""
    read = [LAYOUT.model("base"), training_data(wildcards), *guide(wildcards)]
    return bundles(*read, *(file for file in (pairs(wildcards), previous(wildcards)) if file))


def given_folders(wildcards):
    """The files of folders that a variant's settings name, for each its config.json first, and
    what files they name."""
    files = [*map(str, VARIANTS[wildcards.variant].settings.files())]
    for folder in VARIANTS[wildcards.variant].folders.values():
        files += [f"{folder}/config.json", *map(str, sorted(Path(folder).glob("*.safetensors")))]
    return list(map(given, files))


def pairs(wildcards):
    """The own samples of the base that a variant makes pairs of."""
    chosen = VARIANTS[wildcards.variant].pairs
    return LAYOUT.pairs(chosen[0]) if chosen else []


def pairs_function(wildcards):
    """The file of a function of one's own that scores them."""
    using = [v.settings for v in VARIANTS.values() if v.pairs and v.pairs[0] == wildcards.pairs]
    return [given(str(file)) for file in using[0].files()]


# How each set of own samples is drawn, by its digest; variants that differ in nothing of it share one.
PAIRS = dict(variant.pairs for variant in VARIANTS.values() if variant.pairs)
PAIRS_GUIDES = {variant.pairs[0]: variant.guide for variant in VARIANTS.values() if variant.pairs}


def pairs_guide(wildcards):
    """The guide that ranks them."""
    return LAYOUT.model(PAIRS_GUIDES[wildcards.pairs])


def pairs_embeddings(wildcards):
    """What it says of the data."""
    return LAYOUT.embeddings_of(PAIRS_GUIDES[wildcards.pairs])


def pairs_bundles(wildcards):
    """What pairs are made from, where it comes as bundles."""
    guide = pairs_guide(wildcards), pairs_embeddings(wildcards)
    return bundles(LAYOUT.model("base"), LAYOUT.latents, *guide)


def pairs_settings(wildcards):
    """How own samples are drawn and scored."""
    return settings(PAIRS[wildcards.pairs].handed_on())


def pairs_code(wildcards):
    """The code that draws them, and what scores them."""
    looks = guide_code(guide_name(PAIRS_GUIDES[wildcards.pairs]))
    return code("pairs", FAMILY, *PAIRS[wildcards.pairs].found(), *looks)


def finetune_options(wildcards, input):
    """The folders that not every fine-tuning has, as words of a command line."""
    variant = VARIANTS[wildcards.variant]
    given = {"data" if "pixels" in variant.needs else "cache": input.data}
    given |= {"previous": input.previous, **dict(zip(("guide", "embeddings"), input.guide))}
    chosen = {name: os.path.dirname(file) for name, file in given.items() if file}
    if SAMPLES:
        drawing = {**plan.sampling(CONFIG), "seeds": CONFIG["development"]["seeds"]}
        chosen |= {"development": input.development, "drawing": settings(drawing)}
    own = [("folder", f"{name}={path}") for name, path in variant.folders.items()]
    own += [("folder", f"pairs={os.path.dirname(input.pairs)}")] if input.pairs else []
    return [word for name, path in [*chosen.items(), *own] for word in (f"--{name}", path)]
