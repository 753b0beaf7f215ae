# In: base; what the method of a variant needs: latents/ or dataset/, guide and embeddings/.
# Out: development.tsv, models/<variant>-<step>/, training/<variant>-<step>/.


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
    """The code of the variant's method and of the family, and what watches the guide where that
    is wanted; no other method's."""
    variant = VARIANTS[wildcards.variant]
    watch = [("train", "watch")] if variant.settings.watch_guide else []
    return code("finetune", (plugins.METHODS, variant.method), FAMILY, *watch)


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
    guided = "guide" in VARIANTS[wildcards.variant].needs
    return [LAYOUT.model("guide"), LAYOUT.embeddings] if guided else []


def training_data(wildcards):
    """The encoded data set, or the pictures for a variant that needs pixels."""
    return LAYOUT.dataset if "pixels" in VARIANTS[wildcards.variant].needs else LAYOUT.latents


def given_folders(wildcards):
    """The files of folders that a variant's settings name, for each its config.json first."""
    files = []
    for folder in VARIANTS[wildcards.variant].folders.values():
        files += [f"{folder}/config.json", *map(str, sorted(Path(folder).glob("*.safetensors")))]
    return files


def finetune_options(wildcards, input):
    """The folders that not every fine-tuning has, as words of a command line."""
    variant = VARIANTS[wildcards.variant]
    given = {"data" if "pixels" in variant.needs else "cache": input.data}
    given |= {"previous": input.previous, **dict(zip(("guide", "embeddings"), input.guide))}
    chosen = {name: os.path.dirname(file) for name, file in given.items() if file}
    chosen |= variant.folders
    if SAMPLES:
        drawing = {**plan.sampling(CONFIG), "seeds": CONFIG["development"]["seeds"]}
        chosen |= {"development": input.development, "drawing": settings(drawing)}
    return [word for name, path in chosen.items() for word in (f"--{name}", path)]


rule development:
    """Write the prompts that each checkpoint draws: none of them is reported."""
    input:
        prompts=rules.prompts.output[0],
        data=development_data(),
    output:
        LAYOUT.development,
    log:
        LAYOUT.log("development"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("development")
    resources:
        **needs("development"),
    params:
        settings=development_settings(),
        code=code("development"),
        data=lambda wildcards, input: (
            ["--data", os.path.dirname(input.data)] if input.data else []
        ),
    shell:
        python("development") + " --settings {params.settings:q} --prompts {input.prompts:q}"
        " {params.data:q} --out {output:q} --log {log:q}"


rule finetune:
    """Train one checkpoint, continuing the one before."""
    input:
        base=LAYOUT.model("base"),
        guide=guide,
        data=training_data,
        folders=given_folders,
        previous=previous,
        development=rules.development.output[0] if SAMPLES else [],
    output:
        [LAYOUT.samples(TRAINED)] if SAMPLES else [],
        model=LAYOUT.model(TRAINED),
        training=LAYOUT.training(TRAINED),
        summary=LAYOUT.training(TRAINED, "summary.json"),
        log=LAYOUT.training(TRAINED, "log.csv"),
    log:
        LAYOUT.log("finetune", TRAINED),
    # The longest chain of the study: everything else can wait for it.
    priority: 10
    conda:
        "../envs/models.yaml"
    threads: threads_of("finetune") * PROCESSES
    resources:
        **needs("finetune", gpu=GPUS * PROCESSES, times=PROCESSES),
        device=DEVICE,
        processes=PROCESSES,
        nodes=NODES,
        launcher=CONFIG["finetune"]["launcher"],
        batch=CONFIG["generate"]["batch_size"],
        save_every=CONFIG["finetune"]["save_every"],
        save_minutes=CONFIG["finetune"]["save_minutes"],
    params:
        settings=finetune_settings,
        code=finetune_code,
        base=subpath(input.base, parent=True),
        options=finetune_options,
        model=subpath(output.model, parent=True),
        training=subpath(output.training, parent=True),
    shell:
        python("launch") + " --processes {resources.processes} --nodes {resources.nodes}"
        " --launcher={resources.launcher:q} "
        + script("finetune")
        + " --settings {params.settings:q} --base {params.base:q} {params.options:q}"
        " --out-model {params.model:q} --out-training {params.training:q}"
        " --save-every {resources.save_every} --save-minutes {resources.save_minutes}"
        " --batch-size {resources.batch}"
        " --device {resources.device} --threads {threads} --log {log:q}"
