"""Families of base models, one file each (`vlg.models.family` says what it must bring), and which
of them a folder is of."""

from __future__ import annotations

from pathlib import Path

from vlg import plugins
from vlg.errors import UserError
from vlg.models.stated import told

INDEX = "model_index.json"
USUAL = "StableDiffusionPipeline"  # the class of a folder that names none


def class_of(folder: Path | str) -> str:
    """The class of pipelines that a folder says it is."""
    try:
        return told(Path(folder), INDEX).get("_class_name", USUAL)
    except UserError as error:
        raise UserError(f"{folder}/{error}") from None


def name_of(folder: Path | str, begin: str = "") -> str:
    """The name of a folder's family; UserError when there is none, beginning with `begin`, what to
    call the folder, by default its path."""
    found = class_of(folder)
    names = plugins.names(plugins.FAMILIES)
    served = {name: plugins.constant(plugins.FAMILIES, name, "CLASSES") for name in names}
    for name, classes in served.items():
        if found in classes:
            return name
    known = ", ".join(f"{name} ({', '.join(classes)})" for name, classes in served.items())
    raise UserError(f"{begin or folder} is a {found}; families there are: {known}")


def file_of(folder: Path | str) -> Path:
    """The file of a folder's family, for a hash of the code that a result depends on."""
    return plugins.file(plugins.FAMILIES, name_of(folder))
