"""Does vision-language guidance make a diffusion model's pictures more faithful to their prompts?

Prompts, data and models go in; tables, figures, a gallery and the record of how they were made come
out, under results/<study>. One stage is one file of rules/ and one script of scripts/.
"""

from snakemake.utils import min_version

min_version("9.19")


configfile: "config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"


# The first rule is what runs when nothing is named, also where another workflow takes these rules.
rule all:
    """The whole study."""
    input:
        lambda wildcards: everything(),


include: "rules/functions/sources.smk"
include: "rules/fetch.smk"
include: "rules/prompts.smk"
include: "rules/data.smk"
include: "rules/models.smk"
include: "rules/finetune.smk"
include: "rules/generate.smk"
include: "rules/refine.smk"
include: "rules/references.smk"
include: "rules/score.smk"
include: "rules/pictures.smk"
include: "rules/tables.smk"
include: "rules/judge.smk"
include: "rules/report.smk"
include: "rules/shapes.smk"


onstart:
    check_arrays()
    # Snakemake itself removes old outputs and makes folders, and would end in a traceback.
    environment.check_writable(
        file for job in workflow.dag.needrun_jobs() for file in [*job.output, *job.log]
    )


onsuccess:
    if APART and not workflow.storage_settings.keep_storage_local:
        bundle.clear(Path(here(OUT)))
