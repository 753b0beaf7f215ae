"""Kinds of judges, one file each: `vlg.judge.kind` says what a file must bring."""
