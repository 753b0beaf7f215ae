"""The page that says which way to take for which budget."""

import json

import pandas as pd

from tools import choose


def row(model, arm, fidelity, p, tflops, train=0.0, against=(0.0, 1.0), control=None):
    told = {"fidelity_delta": fidelity, "fidelity_delta_p_corrected": p}
    told |= {"fidelity_delta_low": fidelity - 0.01, "fidelity_delta_high": fidelity + 0.01}
    told |= {"delta": 0.0, "p_corrected": 1.0, "delta_low": -1.0, "delta_high": 1.0}
    for n in choose.PICTURES:
        told[f"at_{n}_tflops"] = tflops + train / n
        for name in ("delta", "fidelity_delta"):
            told[f"at_{n}_{name}"], told[f"at_{n}_{name}_p_corrected"] = against
    lead = {"model": model, "arm": arm, "round": 0 if arm == "plain" else 3, "tflops": tflops}
    return lead | told | {"prompts": 80, "seeds": 2, "control": control}


def test_a_budget_gets_the_way_that_gains_most_of_those_it_allows(tmp_path):
    rows = [
        row("base", "plain", 0.0, float("nan"), 1.0),
        row("base", "best_of_n", 0.04, 0.001, 4.0),
        row("draft-100", "plain", 0.06, 0.001, 1.0, train=5_000, against=(0.02, 0.01)),
        row("dpo-100", "plain", 0.08, 0.2, 1.0),
        row("base", "best_true", 0.30, 0.001, 1.0, control="oracle"),
    ]
    study = tmp_path / "mine"
    (study / "tables").mkdir(parents=True)
    pd.DataFrame(rows).to_csv(study / "tables/methods.csv", index=False)
    config = {"seeds": {"train": [0, 1]}, "statistics": {"confidence": 0.95}}
    (study / "provenance.json").write_text(json.dumps({"config": config}))
    page = choose.render([study])
    table = [line for line in page.splitlines() if line.startswith("| ") and "plain |" in line]
    cells = {line.split()[1]: line.strip("| ").split(" | ")[1:] for line in table[:5]}  # by facts
    few, some, many = cells["2"]
    assert few == "nothing told from base"  # 51 plain pictures' worth
    assert some.startswith("`draft-100`: +6.0 points [5.0, 7.0] at 1.50; more than best of N")
    assert many.startswith("`draft-100`") and "at 1.00" in many
    assert cells["4"][0].startswith("`best_of_n` (3) on `base`: +4.0 points")
    chosen, did = page.split("### What each way did")
    assert "best_true" not in chosen and "trainings of each variant: 2." in chosen
    assert "| `dpo-100` | +0.0 [-1.0, 1.0] | +8.0 [7.0, 9.0] |" in did
    assert "| `best_true` (3) on `base`, oracle | +0.0 [-1.0, 1.0] | **+30.0 [29.0, 31.0]**" in did
