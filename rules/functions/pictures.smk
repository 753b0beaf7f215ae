# What rules/pictures.smk asks of the config and of the wildcards of a job.


import hashlib

from vlg.files import below


def set_settings(wildcards):
    """Which pictures a set has and how they are known. Other files in its folder are another set:
    their names and sizes count, and no time stamp does."""
    own = SETS[wildcards.model]
    source = Path(own["source"])
    names = [f"{path.relative_to(source)}\0{path.stat().st_size}" for path in below(source)]
    return settings(
        {
            "name": wildcards.model,
            **{key: own[key] for key in ("pattern", "column", "others")},
            **{key: CONFIG["seeds"][key] for key in ("selection", "fresh")},
            "files": hashlib.sha256("\0".join(names).encode()).hexdigest()[:16],
        }
    )
