# What rules/generate.smk asks of the config and of the wildcards of a job.


from vlg.config import layout


def shards(model, stage):
    """Numbers of the shards of a model's pictures at a stage (vlg.sample.listing).

    How many hard prompts there will be is not known yet, so the last shards may be empty.
    """
    selection, fresh = (len(CONFIG["seeds"][name]) for name in ("selection", "fresh"))
    hard = min(CONFIG["hard"]["count"], POOL)
    if stage == "selection":
        number = POOL * selection
    else:
        number = hard * fresh
        if model != "base":
            number += (STUDY + min(hard, POOL - STUDY)) * selection
    return layout.shards(number, CONFIG["generate"]["shard_size"])


def stages(model):
    """The base is drawn twice: hard prompts are chosen from what it draws first."""
    return ["selection", "final"] if model == "base" else ["final"]


def images(model, stage):
    """The metadata files of a model's pictures at a stage, or of a set of pictures."""
    if model in SETS:
        return [LAYOUT.images(model, stage, 0)]
    return [LAYOUT.images(model, stage, shard) for shard in shards(model, stage)]


def study_images(model):
    """The metadata files among which a model's study pictures are."""
    return images(model, "selection" if model == "base" else "final")


def study_place(model, number):
    """Where a model's study picture of this number stands among the pictures of its stage.

    The base draws prompts that are not reported between those of two seeds (vlg.sample.listing).
    """
    seed, prompt = divmod(number, STUDY)
    return seed * (POOL if model == "base" else STUDY) + prompt


def generate_settings(wildcards):
    """How a shard is drawn and which pictures it has."""
    seeds, final = CONFIG["seeds"], wildcards.stage == "final"
    return settings(
        {
            "sampling": plan.sampling(CONFIG),
            "model": wildcards.model,
            "stage": wildcards.stage,
            "selection": seeds["selection"],
            "fresh": seeds["fresh"] if final else [],
            "shard": int(wildcards.shard),
            "shard_size": CONFIG["generate"]["shard_size"],
        }
    )
