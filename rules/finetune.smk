# In: base; what the method of a variant needs: latents/ or dataset/, guide and embeddings/, pairs/.
# Out: development.tsv, pairs/<digest>/, models/<variant>-<step>/, training/<variant>-<step>/.


include: "functions/finetune.smk"


rule development:
    """Write the prompts that each checkpoint draws: none of them is reported."""
    input:
        prompts=rules.prompts.output[0],
        data=development_data(),
        bundles=bundles(LAYOUT.dataset) if development_data() else [],
    output:
        LAYOUT.development,
        rest(LAYOUT.log("development"), LAYOUT.development),
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
        writing_one(
            python("development") + " --settings {params.settings:q} --prompts {input.prompts:q}"
            " {params.data:q} --out {output:q} --log {log:q}"
        )


rule pairs:
    """Draw and score own samples of the base, for variants that train on pairs of them."""
    input:
        base=LAYOUT.model("base"),
        cache=LAYOUT.latents,
        guide=pairs_guide,
        embeddings=pairs_embeddings,
        function=pairs_function,
        bundles=pairs_bundles,
    output:
        LAYOUT.pairs("{pairs}"),
        rest(LAYOUT.log("pairs", "{pairs}"), LAYOUT.pairs("{pairs}")),
    log:
        LAYOUT.log("pairs", "{pairs}"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("pairs")
    resources:
        **needs("pairs", gpu=GPUS),
        device=DEVICE,
        batch=CONFIG["generate"]["batch_size"],
    params:
        settings=pairs_settings,
        code=pairs_code,
        base=subpath(input.base, parent=True),
        cache=subpath(input.cache, parent=True),
        guide=subpath(input.guide, parent=True),
        embeddings=subpath(input.embeddings, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        python("pairs") + " --settings {params.settings:q} --base {params.base:q}"
        " --cache {params.cache:q} --guide {params.guide:q} --embeddings {params.embeddings:q}"
        " --out {params.out:q} --batch-size {resources.batch}"
        " --device {resources.device} --threads {threads} --log {log:q}"


rule finetune:
    """Train one checkpoint, continuing the one before."""
    input:
        base=LAYOUT.model("base"),
        guide=guide,
        data=training_data,
        folders=given_folders,
        pairs=pairs,
        previous=previous,
        development=rules.development.output[0] if SAMPLES else [],
        bundles=finetune_bundles,
    output:
        [LAYOUT.samples(TRAINED)] if SAMPLES else [],
        rest(LAYOUT.log("finetune", TRAINED), LAYOUT.model(TRAINED), LAYOUT.training(TRAINED)),
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
