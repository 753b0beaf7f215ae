# In: base, latents/ or dataset/, for a CLIP term guide and embeddings/; prompts.tsv.
# Out: development.tsv, models/<variant>-<step>/, training/<variant>-<step>/.


def previous(wildcards):
    """The checkpoint that this one continues: the next smaller step of the same variant."""
    earlier = [step for step in STEPS if step < int(wildcards.step)]
    if not earlier:
        return []
    return f"{OUT}/training/{wildcards.variant}-{earlier[-1]}{wildcards.run}/manifest.json"


def finetune_settings(wildcards):
    """The variant's settings, and from which step to which."""
    step = int(wildcards.step)
    start = max((each for each in STEPS if each < step), default=0)
    values = {**VARIANTS[wildcards.variant], "start": start, "step": step}
    values.pop("decoder", None)  # an input
    if SAMPLES:
        values["samples"] = {**sampling_settings(), "seeds": CONFIG["development"]["seeds"]}
    seed = wildcards.run.removeprefix("-s") or TRAIN_SEEDS[0]
    return settings({**values, "seed": int(seed)})


def development_data():
    """The pictures whose held-out captions are the development prompts, if they are."""
    made = CONFIG["development"]["prompts"] or CONFIG["prompts"]["source"] == "shapes"
    return [] if made else f"{OUT}/dataset/manifest.json"


def development_settings():
    """Which development prompts."""
    chosen = CONFIG["development"]
    values = {name: chosen[name] for name in ("count", "prompts")}
    return settings({**values, "seed": CONFIG["prompts"]["seed"]})


def guided(wildcards):
    """Whether a variant needs the guide: for its loss, or to log its cosine."""
    variant = VARIANTS[wildcards.variant]
    return variant["guide_scale"] > 0 or "watch_guide" in variant


def guide(wildcards):
    """The guide and what it says of the data set, where a variant needs them."""
    names = ("models/guide", "embeddings") if guided(wildcards) else ()
    return [f"{OUT}/{name}/manifest.json" for name in names]


def training_data(wildcards):
    """The encoded data set, or the pictures for a variant that needs pixels."""
    cached = VARIANTS[wildcards.variant].get("cached", True)
    return f"{OUT}/{'latents' if cached else 'dataset'}/manifest.json"


def decoder(wildcards):
    """The files of a variant's tiny decoder, its config.json first."""
    folder = VARIANTS[wildcards.variant].get("decoder")
    weights = sorted(Path(folder).glob("*.safetensors")) if folder else []
    return [f"{folder}/config.json", *map(str, weights)] if folder else []


def finetune_options(wildcards, input):
    """The folders that not every fine-tuning has, as words of a command line."""
    cached = VARIANTS[wildcards.variant].get("cached", True)
    given = {"cache" if cached else "data": input.data, "previous": input.previous}
    given |= zip(("guide", "embeddings"), input.guide)
    if input.decoder:
        given["decoder"] = input.decoder[0]
    chosen = [(name, os.path.dirname(file)) for name, file in given.items() if file]
    if input.development:
        chosen.append(("development", input.development))
    return [word for name, path in chosen for word in (f"--{name}", path)]


rule development:
    """Write the prompts that each checkpoint draws: none of them is reported."""
    input:
        prompts=rules.prompts.output[0],
        data=development_data(),
    output:
        f"{OUT}/development.tsv",
    log:
        f"{OUT}/logs/development.log",
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
        base=f"{OUT}/models/base/manifest.json",
        guide=guide,
        data=training_data,
        decoder=decoder,
        previous=previous,
        development=rules.development.output[0] if SAMPLES else [],
    output:
        [f"{OUT}/training/{{variant}}-{{step}}{{run}}/samples/metadata.jsonl"] if SAMPLES else [],
        model=f"{OUT}/models/{{variant}}-{{step}}{{run}}/manifest.json",
        training=f"{OUT}/training/{{variant}}-{{step}}{{run}}/manifest.json",
        summary=f"{OUT}/training/{{variant}}-{{step}}{{run}}/summary.json",
        log=f"{OUT}/training/{{variant}}-{{step}}{{run}}/log.csv",
    log:
        f"{OUT}/logs/finetune/{{variant}}-{{step}}{{run}}.log",
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
        code=code("finetune"),
        base=subpath(input.base, parent=True),
        options=lambda wildcards, input: finetune_options(wildcards, input),
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
