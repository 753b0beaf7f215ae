"""What a row of each kind of score file holds: written by this room, read by the analysis."""

# Scores of the study's judge and its guide, a row a picture. `weights` is the hash of the model
# that drew the picture, `judge_weights` and `guide_weights` are those of the models that scored it.
HASHES = ("sha256", "weights", "judge_weights", "guide_weights")
TEXT = ("model", "set", "arm", "id", "picture", *HASHES)
WHOLE = ("round", "seed")
# The facts of a prompt that a verifier can read from a picture; empty where it says nothing.
FACTS = ("count", "shape", "colour", "size", "relation", "background")
NUMBERS = ("clipscore", "guide", "fidelity", "strict", *FACTS, "unet_calls", "seconds", "flops")
NUMBERS += ("blank",)  # 1 for a picture of one colour throughout, 0 for any other
COLUMNS = (*TEXT, *WHOLE, *NUMBERS)

# Scores of one further judge, whose hash is `judge`.
FURTHER = ("model", "id", "seed", "picture", "sha256", "judge", "score")
