"""vlg: the package behind the scripts. It is found beside them, so nothing has to be installed.

In a notebook, with the folder `scripts` in the path: `vlg.evaluate` and `vlg.tables`
(`vlg.evaluation`).
"""


def __getattr__(name: str):
    if name not in ("evaluate", "tables"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vlg import evaluation

    return getattr(evaluation, name)
