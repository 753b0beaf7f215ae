# What rules/judge.smk asks of the config and of the wildcards of a job.


def judge_files(wildcards):
    """What a further judge judges by."""
    return further_judge_files(wildcards.judge)


def further_judge_files(name):
    """A judge's files, or its download."""
    judge = JUDGES[name]
    if hub.parse(judge.source):
        return [LAYOUT.download(f"judge_{name}")]
    return [str(file) for file in judge_kind.find(judge.kind).files(judge)]


def judge_settings(wildcards):
    """What a further judge is."""
    return settings(further_judge(wildcards.judge))


def further_judge(name):
    """The values of a judge's entry; the source of a download is its folder."""
    values = JUDGES[name].handed_on()
    if hub.parse(values["source"]):
        values["source"] = layout.folder(LAYOUT.download(f"judge_{name}"))
    return values


JUDGES = plan.judges(CONFIG)
