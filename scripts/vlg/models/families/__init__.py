"""Families of base models, one file each: `vlg.models.family` says what a file must bring."""
