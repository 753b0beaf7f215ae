# What rules/references.smk asks of the config and of the wildcards of a job.


REFERENCES = plan.references(CONFIG)


def reference_needs(wildcards):
    """What a reference is made from."""
    return plugins.constant(plugins.REFERENCES, wildcards.reference, "NEEDS")


def reference_pictures(wildcards):
    """The metadata files of the pictures that a reference is made from."""
    needs = reference_needs(wildcards)
    others = [LAYOUT.reference(need) for need in needs if need in REFERENCES]
    return [*others, *(study_images("base") if "pictures" in needs else [])]


def reference_base(wildcards):
    """The base, for a reference that needs it."""
    return LAYOUT.model("base") if "base" in reference_needs(wildcards) else []


def reference_bundles(wildcards):
    """The folders that a reference is made from, where they come as bundles."""
    base = reference_base(wildcards)
    return bundles(*reference_pictures(wildcards), *([base] if base else []))


def reference_gpus(wildcards):
    """A GPU for a reference that needs the base."""
    return GPUS if reference_base(wildcards) else 0


def reference_code(wildcards):
    """The code of the kind of reference and, where it needs the base, of the family."""
    family = [FAMILY] if "base" in reference_needs(wildcards) else []
    return code("reference", (plugins.REFERENCES, wildcards.reference), *family)


def reference_options(wildcards, input):
    """What not every reference is made from, as words of a command line."""
    given = ["--pictures", *folders(input.pictures)] if input.pictures else []
    return [*given, *(["--base", os.path.dirname(input.base)] if input.base else [])]
