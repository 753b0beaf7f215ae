"""Two studies' verdicts side by side."""

import pandas as pd
import pytest

from tools import families
from vlg.errors import UserError

CLAIMS = ["claim", "statement", "measure", "effect", "effect_low", "effect_high", "verdict"]
NOTHING = float("nan")


def study(root, *rows):
    (root / "tables").mkdir(parents=True)
    frame = pd.DataFrame([dict(zip(CLAIMS, row, strict=True)) for row in rows])
    frame.to_csv(root / "tables/claims.csv", index=False)
    return root


@pytest.fixture
def studies(tmp_path):
    gain = ("embed_gain", "embed gains over base", "ClipScore")
    hard = ("hard_lead", "hard prompts gain most", "ClipScore")
    late = ("late", "the last step gains", "ClipScore")
    return [
        study(
            tmp_path / "unet",
            (*gain, 2.0, 1.0, 3.0, "supported"),
            (*hard, 0.4, 0.1, 0.7, "supported"),
            (*late, 0.1, NOTHING, NOTHING, "unresolved"),
        ),
        study(
            tmp_path / "flow",
            (*hard, 0.2, -0.1, 0.5, "unresolved"),
            (*gain, -1.0, -1.5, -0.5, "contradicted"),
            (*late, NOTHING, NOTHING, NOTHING, "unresolved"),
            ("own", "only here", "fidelity, %", 1.0, 0.5, 1.5, "supported"),
        ),
    ]


def cells(text):
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in ([c.strip() for c in line.split("|")] for line in lines)}


def test_a_claim_has_both_effects_and_verdicts_on_one_line(studies):
    text = families.render(studies)
    rows = cells(text)
    assert rows["Claim"] == ["Measured in", "unet", "Verdict", "flow", "Verdict", "Difference"]
    # -1 - 2, and below it the root of (-1 + 1.5)^2 + (3 - 2)^2
    assert rows["embed gains over base"] == [
        "ClipScore", "+2.00 [1.00, 3.00]", "supported",
        "−1.00 [−1.50, −0.50]", "contradicted", "−3.00 [−4.12, −1.88]",
    ]  # fmt: skip
    assert rows["hard prompts gain most"][4:] == ["unresolved", "−0.20 [−0.62, 0.22]"]
    assert rows["the last step gains"][1:] == ["+0.10", "unresolved", "–", "unresolved", "–"]
    assert rows["only here"] == ["fidelity, %", "–", "–", "+1.00 [0.50, 1.50]", "supported", "–"]
    assert "Of 2 claims measured in both, 0 have the same verdict." in text
    assert "clear of 0 for 1 of the 2 claims" in text


def test_the_same_study_twice_agrees_with_itself(studies):
    text = families.render([studies[0], studies[0]])
    assert "Of 3 claims measured in both, 3 have the same verdict (2 supported, 1 unresol" in text
    assert "clear of 0 for 0 of the 2 claims" in text


def test_a_study_that_was_not_run_is_named(studies, tmp_path):
    with pytest.raises(UserError, match="claims.csv: not found; run that study first"):
        families.render([studies[0], tmp_path / "nothing"])
