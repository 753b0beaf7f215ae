"""Of which prompts sets of pictures have how many: each set as a whole, then each prompt of which
it has fewer than of others, or none. What is not there is compared with nothing.
"""

from __future__ import annotations

import numpy as np

from vlg.analysis import markup, table
from vlg.analysis.scores import ALL
from vlg.analysis.study import Study

NEEDS = ("scores",)
ORDER = 14
WHEN = "pictures"


def build(study: Study) -> table.Table:
    import pandas as pd

    plain, texts = study.grids.plain, study.prompts.set_index("id")["Prompt"]
    lines = []
    for name in study.settings.sets:
        numbers = plain[plain["model"] == name].groupby("id").size().reindex(study.ids).fillna(0)
        most, there = int(numbers.max()), int((numbers > 0).sum())
        words = f"{there} of {len(study.ids)} prompts"
        lines.append((name, ALL, words, int(numbers.sum()), most * len(study.ids)))
        few = numbers[numbers < most]
        lines += [(name, key, texts[key], int(number), most) for key, number in few.items()]
    names = ["model", "id", "prompt", "pictures", "expected"]
    frame = pd.DataFrame(lines, columns=names)
    frame["missing"] = np.maximum(frame["expected"] - frame["pictures"], 0)
    caption = (
        "Pictures of each set: all of its study prompts, then every prompt of which it has fewer "
        "than the most that it has of one. Comparisons take the prompts that both sides have, with "
        "all pictures of each."
    )
    columns = [
        markup.Column("Set", "model", words=True),
        markup.Column("Prompt", "id"),
        markup.Column("", "prompt", wrap=0.4),
        markup.Column("Pictures", "pictures", digits=0),
        markup.Column("Missing", "missing", digits=0),
    ]
    return table.of(study, frame, caption, columns, "model", measure="")
