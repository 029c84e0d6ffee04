"""The Trainer of transformers with pruning: a callback, and a Trainer that regularises itself."""

from pins.trainer.callback import PruningCallback
from pins.trainer.pruning_trainer import PruningTrainer

__all__ = ["PruningCallback", "PruningTrainer"]
