# What rules/judge.smk asks of the config and of the wildcards of a job.


def judge_files(wildcards):
    """What a further judge judges by."""
    return further_judge_files(wildcards.judge)


def further_judge_files(name):
    """A judge's files, or its download."""
    judge = JUDGES[name]
    if hub.parse(judge.source):
        return [LAYOUT.download(f"judge_{name}")]
    return [given(str(file)) for file in judge_kind.find(judge.kind).files(judge)]


def fetched(name):
    """A judge's download, if it is one."""
    return further_judge_files(name) if hub.parse(JUDGES[name].source) else []


def judge_bundles(wildcards):
    """The pictures and, of a download, the judge, where they come as bundles."""
    return bundles(*study_images(wildcards.model), *fetched(wildcards.judge))


def selftest_bundles():
    """The judge, the guide and downloads of further judges, where they come as bundles."""
    models = [LAYOUT.model("judge"), LAYOUT.model("guide")]
    return bundles(*models, *(file for name in JUDGES for file in fetched(name)))


def compared_pictures():
    """The metadata files of every model's study pictures and of the last rounds of its arms."""
    plain = [study_images(model) for model in RUNS]
    return sum([*plain, *(refined(*each, rounds(each[1])[-1:]) for each in REFINED)], [])


def judge_settings(wildcards):
    """What a further judge is."""
    return settings(further_judge(wildcards.judge))


def further_judge(name):
    """The values of a judge's entry; the source of a download is its folder."""
    values = JUDGES[name].handed_on()
    if hub.parse(values["source"]):
        values["source"] = here(layout.folder(LAYOUT.download(f"judge_{name}")))
    return values


JUDGES = plan.judges(CONFIG)
