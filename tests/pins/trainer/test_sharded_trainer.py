"""The Trainer with FSDP2: what accelerate does with accelerators, on CPUs.

Accelerate takes no FSDP plugin on CPUs and trains with DistributedDataParallel there. `Sharded`
tells it what it tells itself where there is an accelerator; all else is its own: sharding,
clipping, saving, loading.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import DistributedType  # type: ignore[import-untyped]
from accelerate.state import (  # type: ignore[import-untyped]
    AcceleratorState,
    GradientState,
    PartialState,
)
from accelerate.utils import (  # type: ignore[import-untyped]
    FullyShardedDataParallelPlugin,
)
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import AutoModelForSequenceClassification, Trainer
from transformers.distributed.configuration_utils import DistributedConfig

from pins import masks
from pins.distributed.sharding import is_sharded, local, whole
from pins.errors import CheckpointError, OptimalityError, SettingError
from pins.masks import count
from pins.models.parameters import prunable_parameters
from pins.models.self_distillation import SelfRegularizer
from pins.trainer.optimizer import torch_optimizer
from pins.trainer.pruning_trainer import PruningCallback, PruningTrainer
from tests.pins.networks import perceptron
from tests.pins.ranks import Check, raises, run_together
from tests.pins.sharded import assert_equal
from tests.pins.trainer.trainers import (
    DECISIONS,
    STEPS,
    AfterSteps,
    arguments,
    classifier,
    pruning,
    texts,
)

SAVED = 6
FSDP: dict[str, Any] = {
    "fsdp": True,
    "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["BertLayer"]},
}


class Sharded:
    """Of a Trainer: its accelerator uses FSDP."""

    def create_accelerator_and_postprocess(self: Any) -> None:
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        state = self.accelerator.state
        assert state.distributed_type == DistributedType.MULTI_CPU, "accelerate shards by itself"
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        state.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.is_fsdp_enabled = True


class ShardedTrainer(Sharded, Trainer):
    pass


class ShardedPruningTrainer(Sharded, PruningTrainer):
    pass


def forget_accelerate() -> None:
    """Each Trainer of a process takes over the state of the one before."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU


def trainer_of(kind: type[Trainer], folder: Path, given: PruningCallback, **changes: Any) -> Any:
    forget_accelerate()
    looks = changes.pop("looks", None)
    options: dict[str, Any] = {"args": arguments(folder, **{**FSDP, **changes})}
    options |= {"pruning": given} if issubclass(kind, PruningTrainer) else {"callbacks": [given]}
    trainer = kind(model=classifier(), train_dataset=texts(), eval_dataset=texts(8), **options)
    if looks is not None:
        trainer.add_callback(AfterSteps(looks))
    return trainer


def assert_zeros(given: PruningCallback, *_: Any) -> None:
    """Sharded, exactly as sparse as decided, and zero where it is pruned."""
    pruner = given.pruner
    assert pruner is not None
    for name, mask in given.masks.items():
        assert is_sharded(mask)
        assert not local(pruner.parameters[name])[~local(mask)].any()
    if pruner.decision is not None:
        assert count(given.masks).kept == pruner.decision.proof.keep


def masks_of(name: str, folder: Path) -> Path:
    """Those of the training of that name after step SAVED."""
    return shared(folder) / f"{name}.safetensors"


def looking(given: PruningCallback, name: str, folder: Path) -> Callable[[int, Any], None]:
    """Zeros after each step; the masks of one step to a file."""

    def look(step: int, _: Any) -> None:
        assert_zeros(given)
        if step == SAVED:
            masks.save(given.masks, masks_of(name, folder))

    return look


def run(trainer: Any, resume: Path | None = None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of transformers, accelerate and torch among themselves
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))


def shared(folder: Path) -> Path:
    return folder.parent.parent / "trainings"


def regularised(rank: int, _size: int, folder: Path) -> None:
    """Gradual pruning with a sharded teacher that evaluations replace, and with checkpoints."""
    given = pruning()
    trainer = trainer_of(
        ShardedPruningTrainer,
        shared(folder) / "regularised",
        given,
        looks=looking(given, "regularised", folder),
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="steps",
        save_steps=SAVED,
    )
    run(trainer)
    assert given.pruner is not None
    assert given.pruner.finished
    assert given.current_sparsity == pytest.approx(0.8, abs=1e-3)
    regularizer = given.regularizer
    assert regularizer is not None
    own, scalars = regularizer.state_dict()
    assert scalars["best"]
    assert any(is_sharded(tensor) for tensor in own.values())
    logged = [each["sparsity"] for each in trainer.state.log_history if "loss" in each]
    assert logged[-1] == given.current_sparsity
    place = shared(folder) / "regularised" / f"checkpoint-{SAVED}"
    assert (place / "pins" / "checkpoint.json").is_file()
    if rank == 0:
        names = {each.name for each in place.iterdir()}
        assert {"pins", "trainer_state.json"} <= names
    dist.barrier()


def called_back(_rank: int, _size: int, folder: Path) -> None:
    """A plain Trainer, with checkpoints of which each rank writes its part."""
    given = pruning()
    config = {**FSDP["fsdp_config"], "state_dict_type": "SHARDED_STATE_DICT"}
    trainer = trainer_of(
        ShardedTrainer,
        shared(folder) / "called back",
        given,
        looks=looking(given, "called back", folder),
        save_strategy="steps",
        save_steps=SAVED,
        fsdp_config=config,
    )
    run(trainer)
    assert given.pruner is not None
    assert given.pruner.finished


def by_a_trust_region(_rank: int, _size: int, folder: Path) -> None:
    """A criterion that reads the loss, of the rows of all ranks."""
    given = pruning(criterion="trust-region")
    trainer = trainer_of(
        ShardedPruningTrainer,
        shared(folder) / "region",
        given,
        looks=partial(assert_zeros, given),
    )
    run(trainer)
    assert given.pruner is not None
    assert given.pruner.loss_change is not None
    assert given.pruner.finished


def goes_on_sparse(_rank: int, _size: int, folder: Path) -> None:
    """keep_zeros=True holds the zeros that a model has; a checkpoint brings them back."""
    given = PruningCallback(keep_zeros=True)
    trainer = trainer_of(ShardedTrainer, shared(folder) / "sparse", given)
    with torch.no_grad():
        for parameter in prunable_parameters(trainer.model).parameters.values():
            parameter[:, ::2] = 0
    run(trainer)
    assert given.current_sparsity == 0.5
    for name, parameter in prunable_parameters(trainer.model).parameters.items():
        assert not local(parameter)[:, ::2].any(), name
        assert local(parameter)[:, 1::2].all()


def loaded_in_parts(rank: int, size: int, folder: Path) -> None:
    """A model that transformers itself shards while it loads it, which it does on CPUs, too."""
    place = shared(folder) / "model"
    if rank == 0:
        classifier().save_pretrained(place)
    dist.barrier()
    forget_accelerate()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        model = AutoModelForSequenceClassification.from_pretrained(
            str(place), distributed_config=DistributedConfig(fsdp_size=size)
        )
    given = pruning()
    trainer = PruningTrainer(
        model=model, args=arguments(folder), train_dataset=texts(), pruning=given
    )
    trainer.add_callback(AfterSteps(partial(assert_zeros, given)))
    run(trainer)
    assert given.pruner is not None
    assert given.pruner.finished
    assert given.pruner.group.size == size
    assert given.current_sparsity == pytest.approx(0.8, abs=1e-3)


def a_copy_that_parts_is_noticed(rank: int, _size: int, folder: Path) -> None:
    """DistributedDataParallel, as the Trainer has it on CPUs: the weights of one rank change."""
    forget_accelerate()
    given = pruning()
    before, at = DECISIONS[1] - 1, DECISIONS[1]

    def spoil(step: int, model: Any) -> None:
        if step == before and rank == 1:
            with torch.no_grad():
                for name in given.masks:  # by a relative 1e-6, zeros stay
                    model.get_parameter(name).mul_(1 + 1e-6)

    trainer = Trainer(
        model=classifier(), args=arguments(folder), train_dataset=texts(), callbacks=[given]
    )
    trainer.add_callback(AfterSteps(spoil))
    raises(OptimalityError, f"after the decision of step {at} rank 1 of 2", partial(run, trainer))


def what_cannot_be_seen_is_refused(_rank: int, _size: int, _folder: Path) -> None:
    """The older FSDP, in a line."""
    model = FullyShardedDataParallel(perceptron(), device_id=torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters())
    refused = partial(torch_optimizer, optimizer, model, deepspeed=False)
    raises(SettingError, "a Trainer with FSDP1", refused)


def goes_on(kind: type[Trainer], name: str, folder: Path, **changes: Any) -> PruningCallback:
    """At another number of ranks, from the checkpoint half-way to the end."""
    given = pruning()
    begun: list[SelfRegularizer | None] = []

    def look(step: int, _: Any) -> None:
        if not begun:
            assert step == SAVED + 1
            assert step not in DECISIONS
            begun.append(given.regularizer)
            expected = masks.load(masks_of(name, folder))
            assert_equal({name: whole(mask) for name, mask in given.masks.items()}, expected)
        assert_zeros(given)

    place = shared(folder) / name / f"checkpoint-{SAVED}"
    trainer = trainer_of(kind, folder / name, given, looks=look, **changes)
    if kind is ShardedTrainer:
        given.resume(place)
    run(trainer, place)
    assert trainer.state.global_step == STEPS
    assert given.pruner is not None
    assert given.pruner.finished
    assert given.pruner.steps == STEPS
    return given


def regularised_goes_on(_rank: int, _size: int, folder: Path) -> None:
    given = goes_on(ShardedPruningTrainer, "regularised", folder)
    assert given.regularizer is not None
    assert given.current_sparsity == pytest.approx(0.8, abs=1e-3)


def called_back_goes_on(_rank: int, _size: int, folder: Path) -> None:
    config = {**FSDP["fsdp_config"], "state_dict_type": "SHARDED_STATE_DICT"}
    goes_on(ShardedTrainer, "called back", folder, fsdp_config=config)


def another_model_is_refused(_rank: int, _size: int, folder: Path) -> None:
    """Before anything of the checkpoint is read."""
    place = shared(folder) / "regularised" / f"checkpoint-{SAVED}"
    other = partial(pruning().resume, place, classifier(hidden_size=16))
    raises(CheckpointError, "is of another model", other)
    assert not whole(torch.zeros(1)).any()


TRAININGS: tuple[Check, ...] = (
    regularised,
    called_back,
    by_a_trust_region,
    goes_on_sparse,
    loaded_in_parts,
    what_cannot_be_seen_is_refused,
    a_copy_that_parts_is_noticed,
)
RESUMED: tuple[Check, ...] = (regularised_goes_on, called_back_goes_on, another_model_is_refused)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder = tmp_path_factory.mktemp("trainer")
    said = run_together(TRAININGS, 2, folder / "two", ports=True)
    return {**said, **run_together(RESUMED, 3, folder / "three", ports=True)}


@pytest.mark.parametrize("check", [*TRAININGS, *RESUMED], ids=lambda check: check.__name__)
def test_on_ranks(found: dict[str, str | None], check: Check) -> None:
    assert found[check.__name__] is None, found[check.__name__]
