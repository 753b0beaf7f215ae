"""Stable Diffusion 1.x and 2.x: a UNet under one text encoder."""

CLASSES = ("StableDiffusionPipeline",)
