"""A run of `pins oneshot`: calibrate, prune and save the blocks of a decoder, one by one."""

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from pins import masks as mask_files
from pins.distributed.collectives import gather_json, on_rank_zero
from pins.distributed.consistency import require_same_run
from pins.distributed.launch import local_rank
from pins.distributed.process_group import world
from pins.errors import SettingError
from pins.models import smollm2
from pins.models.decoder import Decoder, State
from pins.models.digests import model_digest
from pins.models.parameters import views_of
from pins.models.pretrained import locate
from pins.oneshot.decision import decide_model, require_memory
from pins.oneshot.folder import Folder
from pins.oneshot.gram import Grams, linear_layers, shares
from pins.oneshot.layer import Layer
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.oneshot.methods.method import bounds
from pins.oneshot.methods.registry import method_named
from pins.oneshot.pruned_layer import pruned_layer
from pins.oneshot.settings import Settings
from pins.oneshot.text import drawn, plain_text, sliding, text_digest
from pins.pruning.final_decision import FinalDecision
from pins.selection.tree import Node, View
from pins.tasks import Task, load_task
from pins.tasks.language_modeling import perplexity
from pins.utils.devices import choose_device

LEFT_DENSE = {"error": 0.0, "relative_error": 0.0, "left_dense": True}


class OneShot:
    """A run from the first block to the last one; started again, it goes on after the last block.

    A block reads what the pruned blocks before it give for the calibration windows; the layers of
    one block are pruned from what they read before any of them is, and one that reads nothing, as
    an expert without tokens, stays dense. Beside one block, in memory are what is outside of the
    blocks, and the hidden states of all windows.

    Under `torch.distributed` all ranks make the same run and call the same methods, each with its
    share of the windows, and rank 0 alone writes, in a folder that all of them see. What is written
    does not depend on the number of ranks, except for times: sums have a fixed order (`Grams`),
    rows are solved in chunks (`by_rows`), and of what each rank makes of a whole layer that of rank
    0 counts. The bits depend on the device and on the number of threads of a process.

    run = OneShot(Settings(model="model", method="wanda"), Path("out"))
    for report in run.blocks():
        print(report)
    print(run.perplexity(run.losses()["sparse"]))
    """

    def __init__(self, settings: Settings, out: Path) -> None:
        """Open the model and the text.

        Raises:
            PinsError: a setting, the model or the text does not fit.
        """
        self.settings, self.method, self.group = settings, method_named(settings.method), world()
        device = choose_device(settings.device, "float32", local_rank=local_rank(self.group)).device
        on_rank_zero(self.group, lambda: str(locate(settings.model)))  # one of them fetches it
        self.decoder = Decoder.open(settings.model, device)
        self._require_positions()
        self.method.require(settings.allocation(), settings.final_sparsity(), self._views(None))
        task = load_task(settings.task, settings.data)
        self.digests = task.digests
        tokenizer, length = self.decoder.tokenizer, settings.length
        self.calibration = drawn(
            plain_text(task, task.train), tokenizer, length, settings.calibration, settings.seed
        )
        self._slots = shares(range(len(self.calibration)), self.group)
        self._own = [*chain(*self._slots)]
        self.test = sliding(
            plain_text(task, task.test),
            tokenizer,
            length,
            settings.stride or length,
            settings.test_windows,
        )
        self.inputs = inputs(settings, task)
        require_same_run({**settings.as_json(), **self.inputs}, 0, self.group)
        self.folder = Folder(out, self.decoder, packed=settings.format != "dense")
        self._decided: Mapping[str, Tensor] = {}
        if isinstance(self.method, GradientMethod) and self.folder.report(None) is None:
            require_memory(self.method, self.decoder.model, self._views(None), length, device)
        self.reports: list[dict[str, Any]] = []
        self._states: dict[str, list[State]] = {}

    @property
    def about(self) -> str:
        """What the model is, as cards say it."""
        return smollm2.ABOUT if self.settings.model == smollm2.NAME else self.settings.model

    @property
    def left_dense(self) -> list[str]:
        """The weights of the layers whose weights nothing tells apart."""
        return [name for report in self.reports for name in _left_dense(report)]

    @property
    def decides(self) -> bool:
        """Whether the method decides for all blocks, before the first."""
        return isinstance(self.method, GradientMethod)

    def decide(self, advance: Callable[[], Any] = lambda: None) -> None:
        """Decide for all blocks, if it is not done.

        Args:
            advance: called after each calibration window.
        """
        on_rank_zero(self.group, partial(self._decide, advance))
        masks = mask_files.load(self.folder.block_file(None, "masks.safetensors"))
        self._decided = mask_files.PackedMasks(masks)

    def _decide(self, advance: Callable[[], Any]) -> None:
        assert isinstance(self.method, GradientMethod), "others decide layer by layer"
        if self.folder.report(None) is None:
            decision = decide_model(
                self.method,
                self.decoder,
                self.calibration.tokens,
                self._views(None),
                self._tree,
                rate=self.settings.learning_rate or 0.0,
                advance=advance,
            )
            self.folder.save_decision(decision)

    def decision(self, number: int | None) -> FinalDecision | None:
        """The files of the masks of a block, or of all that were decided before (None), to certify.

        None if they are no optimum of scores, or swaps have changed them.
        """
        scores = self.folder.block_file(number, "scores.safetensors")
        if not scores.is_file() or self.settings.swaps:
            return None
        multiplier = (self.folder.report(number) or {}).get("multiplier") or None  # not 0
        costs = self.folder.block_file(number, "costs.safetensors")
        names = set(self._decided)
        if number is not None:
            names = self.reports[number]["layers"].keys() - _left_dense(self.reports[number])
        return FinalDecision(
            scores=scores,
            cost=costs if multiplier else None,
            multiplier=multiplier,
            masks=self.folder.block_file(number, "masks.safetensors"),
            certificate=self.folder.block_file(number, "certificate.json"),
            tree=self._tree(names),
            criterion=self.settings.method,
        )

    def _tree(self, names: Container[str]) -> Node:
        """The masks that some layers may have."""
        views, settings = self._views(None), self.settings
        views = {name: view for name, view in views.items() if name in names}
        return bounds(settings.allocation(), settings.final_sparsity(), views).tree(views)

    def _views(self, number: int | None) -> dict[str, View]:
        """Outputs and inputs of the layers of a block, or of all (None), by name of the weight."""
        numbers = range(len(self.decoder)) if number is None else (number,)
        layers = {name: each for block in numbers for name, each in self._layers(block).items()}
        weights: dict[str, Any] = {name: each.weight for name, each in layers.items()}
        return views_of(self.decoder.model, weights)

    def _layers(self, number: int) -> dict[str, nn.Module]:
        """The linear layers of a block, by the names of their weights."""
        name = self.decoder.names[number]
        layers = linear_layers(self.decoder.model.get_submodule(name))
        return {f"{name}.{own}.weight": layer for own, layer in layers.items()}

    def _require_positions(self) -> None:
        config: Any = self.decoder.model.config
        most = getattr(config.get_text_config(), "max_position_embeddings", None)
        if most is not None and self.settings.length > most:
            raise SettingError(
                f"length is {self.settings.length}, and the model has positions for {most} tokens: "
                "give at most as many"
            )

    def blocks(self, *, dense: bool = True) -> Iterator[dict[str, Any]]:
        """Prune the blocks that are not done; the report of each block, done or not.

        Args:
            dense: pass both texts through the dense blocks too.
        """
        texts = {
            "calibration": [self.calibration.tokens[each] for each in self._own],
            "sparse": self.test.tokens[self.group.rank :: self.group.size],
        }
        through_dense = {"dense calibration": "calibration", "dense": "sparse"} if dense else {}
        states = {
            name: [self.decoder.first(tokens.to(self.decoder.device)) for tokens in windows]
            for name, windows in texts.items()
        }
        states |= {name: states[same] for name, same in through_dense.items()}
        for number in range(len(self.decoder)):
            begin = time.monotonic()
            with self.decoder.loaded(number) as block:
                for name in through_dense:
                    states[name] = self._through(block, number, states[name])
                report = on_rank_zero(self.group, partial(self.folder.report, number))
                if report is None:
                    report, masks, scores = self._prune(block, number, states["calibration"])
                    report["seconds"] = round(time.monotonic() - begin, 3)
                    save = partial(self.folder.save, number, block, masks, scores, report)
                    on_rank_zero(self.group, save)
                else:
                    self.folder.restore(number, block)
                for name in ("calibration", "sparse"):
                    states[name] = self._through(block, number, states[name])
            self.reports.append(report)
            yield report
        self._states = states

    def _through(self, block: nn.Module, number: int, states: list[State]) -> list[State]:
        return [self.decoder.through(block, number, state) for state in states]

    def _prune(
        self, block: nn.Module, number: int, states: list[State]
    ) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
        """Prune the layers of a block in place; what was done, the masks, and the scores."""
        layers = self._layers(number)
        grams = Grams(layers, self.group)
        own = iter(states)
        for slot in self._slots:
            for _ in slot:
                with grams.watching():
                    self.decoder.through(block, number, next(own))
            grams.add()
        found: dict[str, Any] = {}
        masks: dict[str, Tensor] = {}
        scores: dict[str, Tensor] = {}
        for full, module in layers.items():
            turned = not isinstance(module, nn.Linear)  # GPT-2's Conv1D stores (inputs, outputs)
            stored: nn.Parameter = module.weight  # type: ignore[assignment]
            weight = (stored.detach().T if turned else stored.detach()).clone().contiguous()
            mask = self._decided.get(full)
            decided = mask.T.contiguous() if turned and mask is not None else mask
            layer = Layer(full, weight, grams.of(full), grams.vectors(full), self.group, decided)
            if not layer.vectors or (self.decides and decided is None):
                whole = weight.numel()  # nothing tells its weights apart
                found[full] = {"kept": whole, "total": whole, "vectors": layer.vectors} | LEFT_DENSE
                continue
            dtype = self.decoder.dtype(full)
            pruned = pruned_layer(layer, self.settings, self.settings.final_sparsity(), dtype)
            stored.copy_(pruned.weight.T if turned else pruned.weight)
            masks[full] = pruned.mask.T.contiguous() if turned else pruned.mask
            if pruned.scores is not None:
                scores[full] = pruned.scores.T.contiguous() if turned else pruned.scores
            error = layer.error(pruned.weight)
            found[full] = {
                "kept": int(pruned.mask.count_nonzero()),
                "total": pruned.mask.numel(),
                "vectors": layer.vectors,
                "error": error,
                "relative_error": layer.relative(error),
                **pruned.report,
            }
        about = {"block": self.decoder.names[number], "rounding": grams.rounding, "layers": found}
        return about, masks, scores or None

    def calibration_losses(self) -> dict[str, float]:
        """The mean of −log p over the predicted calibration tokens, dense and sparse."""
        found = {}
        for name, key in (("dense", "dense calibration"), ("sparse", "calibration")):
            own = [float(self.decoder.losses(s).double().mean()) for s in self._states[key]]
            shared = gather_json(self.group, list(zip(self._own, own, strict=True)))
            found[name] = fmean(loss for _, loss in sorted(chain(*shared)))
        return found

    def losses(self) -> dict[str, list[float]]:
        """The mean −log p over the scored tokens of each test window, dense and sparse."""
        rank, size = self.group.rank, self.group.size
        found = {}
        for name in {"dense", "sparse"} & set(self._states):
            known = zip(self._states[name], self.test.known[rank::size], strict=True)
            own = [float(self.decoder.losses(s)[k - 1 :].double().mean()) for s, k in known]
            shared = gather_json(self.group, own)
            found[name] = [shared[i % size][i // size] for i in range(len(self.test))]
        return found

    def perplexity(self, losses: Sequence[float]) -> float:
        """exp of the mean −log p over all scored tokens, from that of each window."""
        total = sum(loss * count for loss, count in zip(losses, self.test.counts, strict=True))
        return perplexity(total / self.test.scored)


def _left_dense(report: Mapping[str, Any]) -> list[str]:
    return [name for name, layer in report["layers"].items() if "left_dense" in layer]


def inputs(settings: Settings, task: Task) -> dict[str, Any]:
    """The digests of what a run reads: the model's files, the text to calibrate on and to judge by.

    Raises:
        PinsError: there is no such model, or the task has no text.
    """
    texts = (plain_text(task, rows) for rows in (task.train, task.test))
    return {
        "model_sha256": model_digest(locate(settings.model)),
        "text_sha256": [text_digest(text) for text in texts],
    }
