"""Kinds of judges, one file each: `vlg.judge.kind` says what a file must bring."""

# {what is asked for and is no kind: (why, what to use instead)}
REFUSED = {
    "mps": (
        "its weights are published only as a pickled module, which runs code when it is read",
        "use pickscore, hps or image_reward",
    ),
}
