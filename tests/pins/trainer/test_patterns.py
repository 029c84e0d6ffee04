"""Patterns in the Trainer of transformers."""

from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the Trainer is of transformers")

from transformers import Trainer

from pins.errors import CardinalityError, SettingError
from pins.selection.allocation import Allocation
from pins.trainer.pruning_trainer import PruningCallback
from tests.pins.trainer.trainers import PHASES, arguments, classifier, texts

EXACT = Allocation(pattern="2:4", exactly=True)


def test_a_pattern_by_itself_is_the_sparsity(tmp_path: Path) -> None:
    pruning = PruningCallback(allocation=EXACT, **PHASES)
    trainer = Trainer(classifier(), arguments(tmp_path), train_dataset=texts(), callbacks=[pruning])
    trainer.train()
    assert pruning.current_sparsity == 0.5
    for mask in pruning.masks.values():
        assert set(mask.view(-1, 4).sum(1).tolist()) == {2}


def test_a_sparsity_beside_an_exact_pattern_is_its_own_or_refused() -> None:
    PruningCallback(0.5, allocation=EXACT)
    with pytest.raises(CardinalityError, match=r"exactly 2:4 is a sparsity of 1/2, and 0\.6 is"):
        PruningCallback(0.6, allocation=EXACT)
    with pytest.raises(SettingError, match="takes a sparsity, a schedule object or keep_zeros"):
        PruningCallback(allocation=Allocation(pattern="2:4"))
