"""After any of these faults the study is finished by what the documents say, the same to the byte.

The faults of each kind are drawn from a fixed seed; tests/faults.py says what they do.
"""

import pytest

from tests import faults
from tests.faults import FINISHED, KILLS, LIGHT, STAGES, Fault

# Stages that load models take half a minute each: these meet every other kind of fault in turn.
LOADING = ("finetune", "generate", "refine", "score")
KILLED = [Fault(kind, stage) for stage in LIGHT[1:] for kind in KILLS]
KILLED += [
    Fault(kind, stage, 1)
    for turn, stage in enumerate(LOADING)
    for kind in [*KILLS, *KILLS][turn : turn + 7 : 2]
]
EARLY = [Fault("kill all", stage) for stage in ("prompts", "encode")]
DAMAGED = [
    Fault(kind, name)
    for number, name in enumerate(FINISHED)
    for kind in (["flip", "cut", "lose"][number % 3],)
]
DAMAGED += [Fault("flip", "picture", 1), Fault("cut", "weights", 1), Fault("lose", "picture", 1)]
RECORDS = [Fault("no records", stage) for stage in ("generate", "score", "tables")]
PLACES = [Fault("full disk", stage) for stage in ("generate", "score", "finetune")]
PLACES += [Fault("read-only", stage) for stage in ("generate", "score", "tables")]
ALL = [*KILLED, *EARLY, *DAMAGED, *RECORDS, *PLACES]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ALL, ids=str)
def test_a_disturbed_study_is_finished_the_same(study, tmp_path, fault):
    if fault in PLACES and not faults.can_mount():
        pytest.skip("this system lets us mount nothing")
    typed = fault.check(study, tmp_path)
    by_hand = fault in DAMAGED or fault in PLACES
    assert bool(typed) == by_hand, typed


def test_there_are_enough_faults_of_every_kind():
    assert len(ALL) == len(set(ALL)) >= 50
    assert {fault.stage for fault in ALL} == {*STAGES, *FINISHED}
