# What rules/pictures.smk asks of the config and of the wildcards of a job.


import hashlib

from vlg.data import pixels
from vlg.data.columns import LISTS
from vlg.files import below, sha256


def _state(path):
    if path.name in LISTS:
        return sha256(path)
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def set_settings(wildcards):
    """Which pictures a set has and how they are known. Other pictures or lists in its folder are
    another set: of a list its text counts, of a picture its size and when it was written."""
    own = SETS[wildcards.model]
    source = Path(own["source"])
    read = [p for p in below(source) if p.suffix.lower() in pixels.KINDS or p.name in LISTS]
    said = [f"{path.relative_to(source)}\0{_state(path)}" for path in read]
    return settings(
        {
            "name": wildcards.model,
            **{key: own[key] for key in ("pattern", "column", "others")},
            **{key: CONFIG["seeds"][key] for key in ("selection", "fresh")},
            "files": hashlib.sha256("\0".join(said).encode()).hexdigest()[:16],
        }
    )
