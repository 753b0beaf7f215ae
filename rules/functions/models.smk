# What rules/models.smk asks of the config and of the wildcards of a job.


def model_bundles(wildcards):
    """A model that another job of the study made, where it comes as a bundle."""
    source = model_source(wildcards)
    return bundles(source) if source.startswith(f"{OUT}/") else []


def guide_to_differ_from(wildcards):
    """The guide, for a judge that can be compared with it only after a download.

    Two local folders are compared before the study starts (vlg.config.checks).
    """
    fetched = {"guide", "judge"} & set(hub_sources())
    return LAYOUT.model("guide") if wildcards.kind == "judge" and fetched else []
