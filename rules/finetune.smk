# In: base; what the method of a variant needs: latents/ or dataset/, guide and embeddings/.
# Out: development.tsv, models/<variant>-<step>/, training/<variant>-<step>/.


def earlier(wildcards):
    """The step from which a checkpoint goes on: 0 is the base's."""
    return max((step for step in STEPS if step < int(wildcards.step)), default=0)


def previous(wildcards):
    """The checkpoint that this one continues."""
    step = earlier(wildcards)
    return LAYOUT.training(f"{wildcards.variant}-{step}{wildcards.run}") if step else []


def finetune_settings(wildcards):
    """The variant's method and settings, and from which step to which."""
    seed = int(wildcards.run.removeprefix("-s") or TRAIN_SEEDS[0])
    variant = VARIANTS[wildcards.variant]
    return settings(variant.handed_on(int(wildcards.step), earlier(wildcards), seed))


def finetune_code(wildcards):
    """The code of the method and of the family; of the guide where it is followed or watched."""
    variant = VARIANTS[wildcards.variant]
    watched = [("train", "watch")] if variant.settings.watch_guide else []
    return code("finetune", (plugins.METHODS, variant.method), FAMILY, *watched)


def training_data(wildcards):
    """The encoded data set, or the pictures for a variant that needs pixels."""
    latents = "latents" in VARIANTS[wildcards.variant].needs
    return LAYOUT.latents if latents else LAYOUT.dataset


def guide(wildcards):
    """The guide and what it says of the data set, where a variant needs them."""
    guided = "guide" in VARIANTS[wildcards.variant].needs
    return [LAYOUT.model("guide"), LAYOUT.embeddings] if guided else []


def own_folders(wildcards):
    """The files of the folders that a variant's settings name, as `decoder`."""
    paths = [Path(folder) for folder in VARIANTS[wildcards.variant].folders.values()]
    return [
        str(file)
        for folder in paths
        for file in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    ]


def finetune_options(wildcards, input):
    """The folders that not every fine-tuning has, as words of a command line."""
    variant = VARIANTS[wildcards.variant]
    kind = "cache" if "latents" in variant.needs else "data"
    given = {kind: input.data, "previous": input.previous}
    given |= zip(("guide", "embeddings"), input.guide)
    chosen = {name: os.path.dirname(file) for name, file in given.items() if file}
    chosen |= variant.folders
    if input.development:
        drawn = {**plan.sampling(CONFIG), "seeds": CONFIG["development"]["seeds"]}
        chosen |= {"development": input.development, "drawing": settings(drawn)}
    return [word for name, path in chosen.items() for word in (f"--{name}", path)]


def development_data():
    """The pictures whose held-out captions are the development prompts, if they are."""
    made = CONFIG["development"]["prompts"] or CONFIG["prompts"]["source"] == "shapes"
    return [] if made else LAYOUT.dataset


def development_settings():
    """Which development prompts."""
    chosen = CONFIG["development"]
    values = {name: chosen[name] for name in ("count", "prompts")}
    return settings({**values, "seed": CONFIG["prompts"]["seed"]})


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
    threads: need("development", "threads")
    resources:
        mem_mb=memory("development"),
        runtime=need("development", "runtime"),
        gpu=0,
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
        own=own_folders,
        previous=previous,
        development=rules.development.output[0] if SAMPLES else [],
    output:
        [LAYOUT.samples("{variant}-{step}{run}")] if SAMPLES else [],
        model=LAYOUT.model("{variant}-{step}{run}"),
        training=LAYOUT.training("{variant}-{step}{run}"),
        summary=LAYOUT.training("{variant}-{step}{run}", "summary.json"),
        log=LAYOUT.training("{variant}-{step}{run}", "log.csv"),
    log:
        LAYOUT.log("finetune", "{variant}-{step}{run}"),
    # The longest chain of the study: everything else can wait for it.
    priority: 10
    conda:
        "../envs/models.yaml"
    threads: need("finetune", "threads") * PROCESSES
    resources:
        mem_mb=memory("finetune", PROCESSES),
        runtime=need("finetune", "runtime"),
        gpu=GPUS * PROCESSES,
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
