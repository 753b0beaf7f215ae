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
            bundles=refine_bundles,
        output:
            [LAYOUT.refined("{model}", each, "{arm}", "{shard}") for each in range(1, number + 1)],
            rest(
                LAYOUT.log("refine", "{model}", "{arm}-{shard}"),
                *(LAYOUT.refined("{model}", n, "{arm}", "{shard}") for n in range(1, number + 1)),
            ),
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
            out=lambda wildcards, output: folders(
                file for file in output if file.endswith(layout.METADATA)
            ),
        shell:
            python("refine") + " --settings {params.settings:q} --model {params.model:q}"
            " {params.options:q} --out {params.out:q}"
            " --batch-size {resources.batch} --device {resources.device} --threads {threads} --log {log:q}"
