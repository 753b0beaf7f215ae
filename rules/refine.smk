# In: a model, what an arm needs of the guide and a model's study pictures (or prompts.tsv).
# Out: refined/<model>/round-<r>/<arm>/shard-<k>/.


include: "functions/refine.smk"


# A rule's outputs are the same for all its jobs, so arms with other numbers of rounds have a rule
# of their own beside `refine`, which is of those that have `refine.rounds`.
for number in sorted({arm.rounds for arm in ARMS.values()}):

    rule:
        """All rounds of one arm on one shard: a job starts in the time that a round takes."""
        name:
            "refine" if number == ROUNDS else f"refine_{number}_rounds"
        input:
            model=LAYOUT.model("{model}"),
            guide=refine_guide,
            base=refine_base,
            start=refine_start,
            prompts=refine_prompts,
        output:
            [LAYOUT.refined("{model}", each, "{arm}", "{shard}") for each in range(1, number + 1)],
        log:
            LAYOUT.log("refine", "{model}", "{arm}-{shard}"),
        wildcard_constraints:
            arm="|".join(name for name, arm in ARMS.items() if arm.rounds == number),
        conda:
            "../envs/models.yaml"
        threads: threads_of("refine")
        resources:
            **needs("refine", gpu=GPUS),
            device=DEVICE,
            batch=CONFIG["generate"]["batch_size"],
        params:
            settings=refine_settings,
            code=refine_code,
            model=subpath(input.model, parent=True),
            options=refine_options,
            out=lambda wildcards, output: folders(output),
        shell:
            python("refine") + " --settings {params.settings:q} --model {params.model:q}"
            " {params.options:q} --out {params.out:q}"
            " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
