"""PruningTrainer: the mixed loss of a plain loop, bit for bit, and the choice of the teacher."""

import os
import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")


from pins.errors import (
    ModelError,
    SettingError,
)
from pins.importance.trust_region.criterion import TrustRegion
from pins.masks import count
from pins.masks import load as load_masks
from pins.models import teacher as teacher_module
from pins.models.batches import Batch
from pins.models.self_distillation import SelfRegularizer
from pins.trainer.pruning_trainer import PruningCallback, PruningTrainer
from tests.pins.headed import HEADED, head_of
from tests.pins.trainer.trainers import (
    SCHEDULE,
    STEPS,
    AfterSteps,
    Scripted,
    arguments,
    assert_pruned,
    assert_same,
    classifier,
    default_pruner,
    headed,
    plain_loop,
    pruner_of,
    pruning,
    region_pruner,
    regularizer_of,
    remembered,
    rows_of,
    steps_of,
    texts,
)


@pytest.mark.parametrize(
    ("name", "parts", "half", "counted"),
    [
        *((name, 3, half, True) for name in HEADED for half in (False, True)),
        ("classification", 1, False, True),
        ("tokens", 3, False, False),
    ],
)
def test_self_regularisation_is_that_of_a_plain_loop_however_a_step_is_cut(
    name: str, parts: int, half: bool, counted: bool, tmp_path: Path
) -> None:
    # a batch of one row: those of a step have unequal numbers of predictions
    rows, head = rows_of(name), head_of(name)
    model, pruned = headed(name), pruning()
    if not counted:  # the Trainer divides the losses of such a model by the parts
        model.accepts_loss_kwargs = False  # type: ignore[assignment]
    PruningTrainer(
        model=model,
        args=arguments(
            tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=parts, bf16=half
        ),
        train_dataset=rows,
        pruning=pruned,
    ).train()
    by_hand = headed(name)
    pruner = plain_loop(
        by_hand,
        steps_of(rows, 1, parts, STEPS),
        default_pruner(by_hand, SCHEDULE),
        head=head,
        regularizer=SelfRegularizer(by_hand, head=head),
        half=half,
    )
    assert pruner.sparsity == pruned.current_sparsity > 0.79
    assert_same(model, by_hand, pruned.masks, pruner.masks)


def test_the_plain_loop_sees_how_the_loss_is_divided(tmp_path: Path) -> None:
    """The control: means of each batch alone, averaged, are another loss."""
    rows, head = rows_of("tokens"), head_of("tokens")
    model, pruned = headed("tokens"), pruning()
    args = arguments(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=3)
    PruningTrainer(model=model, args=args, train_dataset=rows, pruning=pruned).train()

    class MeanOfMeans(type(head)):  # type: ignore[misc]
        def count(self, batch: dict[str, Tensor]) -> int:
            return len(batch["labels"])

    by_hand = headed("tokens")
    plain_loop(
        by_hand,
        steps_of(rows, 1, 3, STEPS),
        default_pruner(by_hand, SCHEDULE),
        head=MeanOfMeans(),
        regularizer=SelfRegularizer(by_hand, head=head),
    )
    with pytest.raises(AssertionError):
        assert_same(model, by_hand, {}, {})


@pytest.mark.parametrize(
    ("name", "parts", "regularized"),
    [("classification", 1, False), ("classification", 1, True), ("tokens", 3, True)],
)
def test_a_trust_region_is_that_of_a_plain_loop(
    name: str, parts: int, regularized: bool, tmp_path: Path
) -> None:
    rows, head, criterion = rows_of(name), head_of(name), TrustRegion(radius=20.0)
    model, pruned = headed(name), pruning(criterion=criterion)
    PruningTrainer(
        model=model,
        args=arguments(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=parts),
        train_dataset=rows,
        pruning=pruned,
        self_regularization=regularized,
    ).train()
    by_hand = headed(name)
    step: list[Batch] = []
    pruner = plain_loop(
        by_hand,
        remembered(steps_of(rows, 1, parts, STEPS), step),
        region_pruner(by_hand, SCHEDULE, criterion, head, step),
        head=head,
        regularizer=SelfRegularizer(by_hand, head=head) if regularized else None,
    )
    assert pruner.sparsity == pruned.current_sparsity > 0.79
    assert_same(model, by_hand, pruned.masks, pruner.masks)
    assert pruner.loss_change == pruner_of(pruned).loss_change
    assert pruner.radius_factor == pruner_of(pruned).radius_factor != 1.0


@pytest.mark.parametrize("name", HEADED)
def test_the_loss_that_is_logged_is_the_mixed_loss(name: str, tmp_path: Path) -> None:
    rows, head, model = rows_of(name, 3), head_of(name), headed(name)
    (parts,) = steps_of(rows, 1, 3, 1)
    regularizer = SelfRegularizer(model, head=head)
    total = sum(head.count(part) for part in parts)
    with torch.no_grad():
        wanted = sum(float(regularizer.loss(model(**p), p, num_items=total)) for p in parts)
    trainer = PruningTrainer(
        model=model,
        args=arguments(
            tmp_path, max_steps=1, per_device_train_batch_size=1, gradient_accumulation_steps=3
        ),
        train_dataset=rows,
        pruning=pruning(schedule="one-shot", warmup=0, cooldown=0),
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(wanted, rel=1e-6)


TWO_PROCESSES = """
import os, sys
from pathlib import Path
from pins.masks import save
from pins.trainer import PruningTrainer
from pins.importance.trust_region.criterion import TrustRegion
from tests.pins.trainer.trainers import arguments, headed, pruning, rows_of

out, rank = Path(sys.argv[1]), os.environ.get("RANK", "alone")
size = 1 if "RANK" in os.environ else 2
given = {"criterion": TrustRegion(radius=20.0)} if sys.argv[2] == "trust-region" else {}
pruned = pruning(**given)
trainer = PruningTrainer(
    model=headed("tokens"),
    args=arguments(out, per_device_train_batch_size=size, gradient_accumulation_steps=3),
    train_dataset=rows_of("tokens", 36),
    pruning=pruned,
)
trainer.train()
save(pruned.masks, out / f"{rank}.safetensors")
(out / f"{rank}.txt").write_text(" ".join(
    str(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry
))
(out / f"{rank}.factor").write_text(str(pruned.pruner.radius_factor))
"""


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["abs-pins", "trust-region"])
def test_two_processes_prune_alike_and_divide_the_loss_as_one(
    criterion: str, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    alone = [sys.executable, str(script), str(tmp_path), criterion]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for command in (alone, [*launch, *alone[1:]]):
        subprocess.run(command, env=environment, check=True, capture_output=True)
    found = {rank: load_masks(tmp_path / f"{rank}.safetensors") for rank in ("alone", "0", "1")}
    assert all(torch.equal(mask, found["1"][name]) for name, mask in found["0"].items())
    assert count(found["0"]) == count(found["alone"])
    losses = {rank: (tmp_path / f"{rank}.txt").read_text().split() for rank in ("alone", "0")}
    factors = {rank: (tmp_path / f"{rank}.factor").read_text() for rank in ("0", "1")}
    assert factors["0"] == factors["1"]
    assert (factors["0"] != "1.0") == (criterion == "trust-region")
    # sums of other order: equal at first, and never far apart
    assert [float(each) for each in losses["0"]] == pytest.approx(
        [float(each) for each in losses["alone"]], rel=0.05
    )
    assert float(losses["0"][0]) == pytest.approx(float(losses["alone"][0]), rel=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_the_teacher_computes_as_precisely_as_the_model(
    half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # where bfloat16 is fast, the teacher would take it in any case
    monkeypatch.setattr(teacher_module, "fast_dtype", lambda _: torch.float32)
    seen: dict[str, set[torch.dtype]] = {"teacher": set(), "student": set()}

    def listen(_: int, model: nn.Module) -> None:
        for who, module in (("teacher", regularizer_of(pruned).teacher), ("student", model)):
            layer = module.get_submodule("bert.encoder.layer.0.intermediate.dense")
            layer.register_forward_hook(partial(hear, who))

    def hear(who: str, _: nn.Module, __: Any, output: Tensor) -> None:
        seen[who].add(output.dtype)

    pruned = pruning()
    trainer = PruningTrainer(
        model=classifier(),
        args=arguments(tmp_path, bf16=half),
        train_dataset=texts(),
        pruning=pruned,
        callbacks=[AfterSteps(listen)],
    )
    trainer.train()
    dtype = torch.bfloat16 if half else torch.float32
    assert seen == {"teacher": {dtype}, "student": {dtype}}


def test_a_teacher_of_ones_own_is_copied(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    other = classifier()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    kept = {name: parameter.clone() for name, parameter in other.named_parameters()}
    trainer = PruningTrainer(
        model=model, args=arguments(tmp_path), train_dataset=texts(), pruning=pruned, teacher=other
    )
    trainer.train()
    teacher = dict(regularizer_of(pruned).teacher.named_parameters())
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, kept[name])
        assert torch.equal(teacher[name], parameter.to(teacher[name]))


def test_frozen_weights_are_shared_with_the_teacher(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    model.bert.embeddings.requires_grad_(False)
    trainer = PruningTrainer(
        model=model, args=arguments(tmp_path), train_dataset=texts(), pruning=pruned
    )
    trainer.train()
    name = "bert.embeddings.word_embeddings.weight"
    teacher = regularizer_of(pruned).teacher
    assert teacher.get_parameter(name).data_ptr() == model.get_parameter(name).data_ptr()


def test_a_model_that_the_trainer_casts_before_training_is_taught_as_it_is_then(
    tmp_path: Path,
) -> None:
    model, pruned = classifier(), pruning()
    trainer = PruningTrainer(
        model=model,
        args=arguments(tmp_path, bf16_full_eval=True),
        train_dataset=texts(),
        eval_dataset=texts(),
        pruning=pruned,
    )
    trainer.evaluate()  # leaves the model in bfloat16
    assert model.dtype == torch.bfloat16
    trainer.train()
    dtypes = {parameter.dtype for parameter in regularizer_of(pruned).teacher.parameters()}
    assert dtypes == {torch.bfloat16}
    assert_pruned(model, pruned.masks)


def test_a_model_made_when_training_begins_is_the_one_that_is_pruned_and_taught(
    tmp_path: Path,
) -> None:
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(classifier())
        return made[-1]

    pruned = pruning()
    trainer = PruningTrainer(
        model_init=make,
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=12),
        train_dataset=texts(),
        eval_dataset=texts(),
        pruning=pruned,
    )
    trainer.train()
    assert len(made) == 2
    assert trainer.model is made[-1]
    assert_pruned(made[-1], pruned.masks)
    teacher = dict(regularizer_of(pruned).teacher.named_parameters())
    for name, parameter in made[-1].named_parameters():
        assert torch.equal(teacher[name], parameter.to(teacher[name]))


SCORES = [0.9, 0.75, 0.85, 0.85, 0.8, 0.85]  # of a scripted metric, after every second step


@pytest.mark.parametrize(
    ("metric", "greater", "chosen"),
    # sparsities: dense at 2, then those of 4, 6, 8, and of 9 at 10 and 12
    [
        ("score", True, [2, 4, 6, 8, 10, 12]),
        ("eval_score", True, [2, 4, 6, 8, 10, 12]),
        ("score", False, [2, 4, 6, 8, 10]),
        ("score", None, [2, 4, 6, 8, 10, 12]),
    ],
)
def test_each_evaluation_offers_a_teacher(
    metric: str, greater: bool | None, chosen: list[int], tmp_path: Path
) -> None:
    pruned = pruning()
    teachers: list[int] = []
    weights: list[Tensor] = []

    def look(step: int, _: nn.Module) -> None:
        # an evaluation comes after its step: it is seen at the next one, or at the end
        found = regularizer_of(pruned).teacher.get_parameter("classifier.weight")
        weights.append(found.detach().clone())
        if len(weights) > 1 and not torch.equal(weights[-1], weights[-2]):
            teachers.append(step if len(weights) > STEPS else step - 1)

    trainer = PruningTrainer(
        model=classifier(),
        args=arguments(
            tmp_path,
            eval_strategy="steps",
            eval_steps=2,
            metric_for_best_model=metric,
            greater_is_better=greater,
        ),
        train_dataset=texts(),
        eval_dataset=texts(8),
        compute_metrics=Scripted([*SCORES, 0.0 if greater is False else 1.0]),
        pruning=pruned,
    )
    trainer.add_callback(AfterSteps(look))
    trainer.train()
    assert teachers == chosen
    best = regularizer_of(pruned).state_dict()[1]["best"]
    assert best[-1][0] == str(Fraction(repr(pruned.current_sparsity)))
    trainer.evaluate()  # better than all before, and not in training
    assert regularizer_of(pruned).state_dict()[1]["best"] == best


def test_the_models_own_loss_chooses_by_default(tmp_path: Path) -> None:
    model, pruned = classifier(), pruning()
    trainer = PruningTrainer(
        model=model,
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=12),
        train_dataset=texts(),
        eval_dataset=texts(8),
        pruning=pruned,
    )
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    best = regularizer_of(pruned).state_dict()[1]["best"]
    assert best == [[str(Fraction(repr(pruned.current_sparsity))), logged["eval_loss"]]]
    model.eval()
    with torch.no_grad():
        (batches,) = steps_of(texts(8), 8, 1, 1)
        assert logged["eval_loss"] == pytest.approx(float(model(**batches[0]).loss), rel=1e-6)


def test_of_several_datasets_the_named_one_chooses(tmp_path: Path) -> None:
    def train(**changes: Any) -> PruningCallback:
        pruned = pruning()
        PruningTrainer(
            model=classifier(),
            args=arguments(tmp_path, eval_strategy="steps", eval_steps=12, **changes),
            train_dataset=texts(),
            eval_dataset={"first": texts(8), "second": texts(4)},
            pruning=pruned,
        ).train()
        return pruned

    pruned = train(metric_for_best_model="second_loss")
    assert len(regularizer_of(pruned).state_dict()[1]["best"]) == 1
    with pytest.raises(
        SettingError,
        match=r"has no 'eval_loss' to choose the teacher by, but .*eval_first_loss.*: set metric_f",
    ):
        train()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"callbacks": [pruning()]}, "a PruningCallback among its callbacks: give it as pruning="),
        ({"compute_loss_func": lambda *_, **__: None}, "compute_loss_func or label_smoothing_fac"),
        (
            {"self_regularization": False, "teacher": nn.Linear(1, 1)},
            "a teacher and self_regularization=False: a teacher needs the mixed loss",
        ),
    ],
)
def test_what_excludes_each_other_is_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        PruningTrainer(model=classifier(), args=arguments(tmp_path), pruning=pruning(), **given)


def test_label_smoothing_and_self_regularisation_exclude_each_other(tmp_path: Path) -> None:
    args = arguments(tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(SettingError, match="which has a loss of its own: leave one of them out"):
        PruningTrainer(model=classifier(), args=args, pruning=pruning())
    PruningTrainer(model=classifier(), args=args, pruning=pruning(), self_regularization=False)


def test_a_teacher_that_is_another_network_is_refused_before_the_first_step(
    tmp_path: Path,
) -> None:
    trainer = PruningTrainer(
        model=classifier(),
        args=arguments(tmp_path),
        train_dataset=texts(),
        pruning=pruning(),
        teacher=classifier(num_hidden_layers=1),
    )
    with pytest.raises(ModelError, match=r"the teacher has no 'bert.encoder.layer.1"):
        trainer.train()
    assert trainer.state.global_step == 0
