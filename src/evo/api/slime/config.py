"""Settings of the original's `model.yaml`: model, archive and pool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from evo.dsl.settings import read_settings
from evo.dsl.spec import Spec

Count = Annotated[int, Field(ge=1)]


class ModelConfig(Spec):
    """What `SlimeMoldEncoder` is made of. behavioral_dims is read and means nothing: there are five measures."""

    called = "model"

    sensory_dim: Count = 512
    latent_dim: Count = 256
    head_dim: Count = 64
    num_pseudopods: Count = 8
    behavioral_dims: Annotated[int, Field(ge=1, le=5)] = 5


class ArchiveConfig(Spec):
    """num_centroids: cells of the archive. low_rank_k means nothing: the rank of factors follows from a distortion."""

    called = "archive"

    num_centroids: Annotated[int, Field(ge=0)] = 1000
    behavioral_dims: Literal[5] = 5
    low_rank_k: Count = 64


class PoolConfig(Spec):
    """The fewest and the most pseudopods, the share that may die at once, and whether memory is bounded."""

    called = "pool"

    min_size: Count = 4
    max_size: Count = 64
    cull_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    enforce_memory_budget: bool = False
    memory_budget_mb: Annotated[float, Field(gt=0)] = 500.0


class TrainingConfig(Spec):
    """Steps between looks, between times of dying, of the warm-up and of the gentle phase."""

    called = "training"

    medium_every: Count = 100
    slow_every: Count = 1000
    warmup_steps: Annotated[int, Field(ge=0)] = 1000
    gentle_steps: Annotated[int, Field(ge=0)] = 5000
    initial_temp: Annotated[float, Field(gt=0)] = 0.05
    seed: Annotated[int, Field(ge=0)] = 0


class Config(Spec):
    """All of it; every section and every key may be left out."""

    called = "these settings"

    model: ModelConfig = Field(default_factory=ModelConfig)
    archive: ArchiveConfig = Field(default_factory=ArchiveConfig)
    pool: PoolConfig = Field(default_factory=PoolConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)


def load_config(path: str | Path) -> Config:
    """The settings in a YAML file. Raises DiagnosticError for a file that cannot be read or keys that do not fit."""
    return read_settings(Config, Path(path))
