"""What jobs may use."""

from __future__ import annotations

from pydantic import Field

from vlg.config.keys import Keys


class Light(Keys):
    """What the other jobs may use, which make tables, pages and copies."""

    mem_mb: int = Field(
        2000,
        ge=1,
        description="Memory, in MB.",
    )
    runtime: int = Field(
        60,
        ge=1,
        description="Minutes.",
    )


class Exceptions(Keys):
    """What one stage needs more of, or less."""

    threads: int | None = Field(None, ge=1, description="Threads.")
    mem_mb: int | None = Field(None, ge=1, description="Memory, in MB.")
    runtime: int | None = Field(None, ge=1, description="Minutes.")


class Resources(Keys):
    """What one job may use."""

    threads: int = Field(
        1,
        ge=1,
        description=(
            "Threads of a job that computes with a model. On a CPU another number changes "
            "sums in their last bits; nothing else here changes a result."
        ),
    )
    mem_mb: int = Field(
        4000,
        ge=1,
        description=(
            "Memory of a job that computes with a model, in MB. Where a profile lets jobs be "
            "tried again, each try asks for as much more."
        ),
    )
    runtime: int = Field(
        240,
        ge=1,
        description=(
            "Minutes that a cluster gives a job that computes with a model. One that ends at "
            "its limit goes on from what it has saved when it is run again."
        ),
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "GPUs that a process of such a job asks for; null is 1 where `device` is `cuda`, "
            "or `auto` on a machine that has one, and otherwise 0."
        ),
    )
    light: Light = Field(default_factory=Light)
    stages: dict[str, Exceptions] = Field(
        {},
        description=(
            "Exceptions, by the name of a rule: what one stage needs more of, or less. A "
            "number here stands in place of the one above it."
        ),
    )
