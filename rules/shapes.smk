# The shapes world's own models, trained from nothing. Out: pretrained/, and with `pretrain` the
# shipped files under resources/shapes and resources/shapes-*.


PRETRAIN = (
    python("pretrain") + " --settings {params.settings:q} --part {params.part}"
    " {params.vae:q} --out {params.out:q} --threads {threads} --log {log:q}"
)


# One training makes all bases of a UNet.
BASES = ("base", "base/base", "base/base-middle", "base/base-early")
PARTS = ("vae", "base", "base-flow", "guide", "judge", "siglip", "vqa")


rule pretrain_part:
    """Train the VAE, the guide or a judge."""
    output:
        LAYOUT.pretrained("{part}"),
        rest(LAYOUT.log("pretrain", "{part}"), LAYOUT.pretrained("{part}")),
    log:
        LAYOUT.log("pretrain", "{part}"),
    wildcard_constraints:
        part="vae|guide|judge|siglip|vqa",
    conda:
        "../envs/models.yaml"
    threads: threads_of("pretrain_part")
    resources:
        **needs("pretrain_part"),
    params:
        settings=lambda wildcards: settings(CONFIG["pretrain"][wildcards.part]),
        code=code("pretrain"),
        part="{part}",
        vae=[],
        out=subpath(output[0], parent=True),
    shell:
        PRETRAIN


rule pretrain_base:
    """Train the base, and keep two earlier checkpoints of the same training."""
    input:
        vae=LAYOUT.pretrained("vae"),
        bundles=bundles(LAYOUT.pretrained("vae")),
    output:
        [LAYOUT.pretrained(part) for part in BASES],
        rest(LAYOUT.log("pretrain", "base"), *map(LAYOUT.pretrained, BASES)),
    log:
        LAYOUT.log("pretrain", "base"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("pretrain_base")
    resources:
        **needs("pretrain_base"),
    params:
        settings=settings(CONFIG["pretrain"]["base"]),
        code=code("pretrain"),
        part="base",
        vae=lambda wildcards, input: ["--vae", os.path.dirname(input.vae)],
        out=subpath(output[0], parent=True),
    shell:
        PRETRAIN


rule pretrain_flow:
    """Train the base that is a transformer with flow matching."""
    input:
        vae=LAYOUT.pretrained("vae"),
        bundles=bundles(LAYOUT.pretrained("vae")),
    output:
        LAYOUT.pretrained("base-flow"),
        rest(LAYOUT.log("pretrain", "base-flow"), LAYOUT.pretrained("base-flow")),
    log:
        LAYOUT.log("pretrain", "base-flow"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("pretrain_flow")
    resources:
        **needs("pretrain_flow"),
    params:
        settings=settings(CONFIG["pretrain"]["flow"]),
        code=code("pretrain"),
        part="flow",
        vae=lambda wildcards, input: ["--vae", os.path.dirname(input.vae)],
        out=subpath(output[0], parent=True),
    shell:
        PRETRAIN


rule pretrain:
    """Train all, measure them in full and in half precision, and replace the shipped ones."""
    input:
        [LAYOUT.pretrained(part) for part in PARTS],
        bundles=bundles(*map(LAYOUT.pretrained, PARTS)),
    output:
        LAYOUT.pretrained_quality,
    log:
        LAYOUT.log("pretrain", "ship"),
    conda:
        "../envs/models.yaml"
    threads: threads_of("pretrain")
    resources:
        **needs("pretrain"),
    params:
        settings=settings(plan.sampling(CONFIG)),
        code=code("ship"),
        pretrained=subpath(output[0], parent=True),
        out=ROOT / "resources/shapes",
    shell:
        python("ship") + " --settings {params.settings:q}"
        " --pretrained {params.pretrained:q} --out {params.out:q} --quality {output:q}"
        " --threads {threads} --log {log:q}"
