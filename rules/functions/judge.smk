# What rules/judge.smk asks of the config and of the wildcards of a job.


def judge_files(wildcards):
    """What a further judge judges by."""
    return further_judge_files(wildcards.judge)


def further_judge_files(name):
    """A judge's files; what the study makes in the place of those of its source."""
    judge, made = JUDGES[name], made_here(name)
    kind = judge_kind.find(judge.kind)
    own = [str(file) for file in (kind.beside(judge) if made else kind.files(judge))]
    return [*made, *(file if file in ASKED else given(file) for file in own)]


def made_here(name):
    """The judge where a job makes it: a download, or a model of the shapes world trained anew."""
    source, part = JUDGES[name].source, judge_kind.find(JUDGES[name].kind).shapes
    if hub.parse(source):
        return [LAYOUT.download(f"judge_{name}")]
    anew = part and source == plan.SHAPES and CONFIG["models"]["rebuild"]
    return [LAYOUT.pretrained(part)] if anew else []


def judge_bundles(wildcards):
    """The pictures and, where a job makes it, the judge, where they come as bundles."""
    return bundles(*study_images(wildcards.model), *made_here(wildcards.judge))


def no_selftest(wildcards):
    """End with one line where the self-test is asked for and there is no guide to test."""
    sys.exit("error: models.base: null, and the self-test looks at a guide; name a base for it")


def selftest_bundles():
    """The judge, the guide and further judges that jobs make, where they come as bundles."""
    models = [LAYOUT.model("judge"), *([LAYOUT.model("guide")] if HAS_BASE else [])]
    return bundles(*models, *(file for name in JUDGES for file in made_here(name)))


def compared_pictures():
    """The metadata files of every model's study pictures and of the last rounds of its arms."""
    plain = [study_images(model) for model in RUNS]
    return sum([*plain, *(refined(*each, rounds(each[1])[-1:]) for each in REFINED)], [])


def judge_settings(wildcards):
    """What a further judge is."""
    return settings(further_judge(wildcards.judge))


def further_judge(name):
    """The values of a judge's entry; the source of what a job makes is its folder."""
    values = JUDGES[name].handed_on()
    if made := made_here(name):
        values["source"] = here(layout.folder(made[0]))
    if asked := plan.asked(CONFIG, JUDGES[name]):
        values[asked[0]] = here(asked[1])
    return values


JUDGES = plan.judges(CONFIG)
