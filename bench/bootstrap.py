"""Time 10,000 bootstrap draws for all of PartiPrompts: python bench/bootstrap.py

1,632 prompts x 4 seeds x 8 models, nine quantities a model as a table has them.
Once with one training of each model, once with three.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlg.analysis import statistics


def main() -> None:
    rng = np.random.default_rng(0)
    for trainings in (1, 3):
        values = rng.normal(size=(trainings, 1632, 4, 8 * 9))
        statistics._counts.cache_clear()
        start = time.perf_counter()
        statistics.estimate(values, draws=10_000, confidence=0.95, seed=0)
        first = time.perf_counter() - start
        start = time.perf_counter()
        statistics.estimate(values, draws=10_000, confidence=0.95, seed=0)
        again = time.perf_counter() - start
        print(
            f"{trainings} training(s), {values[0].size:,} values: {first:.1f} s, further tables of "
            f"the same prompts {again:.1f} s"
        )


if __name__ == "__main__":
    main()
