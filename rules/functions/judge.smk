# What rules/judge.smk asks of the config and of the wildcards of a job.


def judge_files(wildcards):
    """What a further judge judges by: its files, or its download."""
    judge = JUDGES[wildcards.judge]
    if hub.parse(judge.source):
        return LAYOUT.download(f"judge_{wildcards.judge}")
    return [given(str(file)) for file in judge_kind.find(judge.kind).files(judge)]


def judge_bundles(wildcards):
    """The pictures and, of a download, the judge, where they come as bundles."""
    fetched = hub.parse(JUDGES[wildcards.judge].source)
    judge = [judge_files(wildcards)] if fetched else []
    return bundles(*study_images(wildcards.model), *judge)


def judge_settings(wildcards):
    """What a further judge is; the source of a download is its folder."""
    values = JUDGES[wildcards.judge].handed_on()
    if hub.parse(values["source"]):
        values["source"] = here(layout.folder(LAYOUT.download(f"judge_{wildcards.judge}")))
    return settings(values)


JUDGES = plan.judges(CONFIG)
