# What rules/models.smk asks of the config and of the wildcards of a job.


def guide_to_differ_from(wildcards):
    """The guide, for a judge that can be compared with it only after a download.

    Two local folders are compared before the study starts (vlg.config.checks).
    """
    fetched = {"guide", "judge"} & set(hub_sources())
    return LAYOUT.model("guide") if wildcards.kind == "judge" and fetched else []
