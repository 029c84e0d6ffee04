"""A run of `pins oneshot`: calibrate, prune and save the blocks of a decoder, one by one."""

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import cached_property, partial
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
from pins.oneshot.error_table import document, entry
from pins.oneshot.folder import TABLE, CertifyChoice, Folder
from pins.oneshot.gram import shares
from pins.oneshot.layer import Layer
from pins.oneshot.level import Level
from pins.oneshot.methods.gradient_method import GradientMethod
from pins.oneshot.methods.method import bounds
from pins.oneshot.methods.registry import method_named
from pins.oneshot.pruned_layer import pruned_layer
from pins.oneshot.read_block import ReadBlock, layers_of
from pins.oneshot.settings import Settings
from pins.oneshot.text import drawn, plain_text, sliding, text_digest
from pins.pruning.final_decision import FinalDecision
from pins.selection.budget import Budget
from pins.selection.tree import Node, View
from pins.tasks import Task, load_task
from pins.tasks.language_modeling import perplexity
from pins.utils.devices import choose_device
from pins.utils.io import write_json

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
        self.levels = settings.parsed_levels()
        if self.decides and self.levels:
            raise SettingError(
                f"{settings.method} decides for all layers at once, and levels are measured layer "
                "by layer: give a method that prunes each by itself, as wanda"
            )
        whole = [] if settings.budget else [settings.level()]
        for level in [*whole, *self.levels.values()]:
            self.method.require(*level, self._views)
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
        self.budget: dict[str, Any] | None = None
        self._choice: Mapping[str, str | float] = {}
        self._decided: Mapping[str, Tensor] = {}
        if isinstance(self.method, GradientMethod) and self.folder.report(None) is None:
            require_memory(self.method, self.decoder.model, self._views, length, device)
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

    def errors(self) -> Iterator[int]:
        """Measure the errors of each level by what layers read in the dense model; each block.

        The table is then complete, and the levels of a budget are to be chosen. Where it is
        already, no block is passed.
        """
        if on_rank_zero(self.group, (self.folder.out / TABLE).is_file):
            return
        states = self._first([self.calibration.tokens[each] for each in self._own])
        entries: list[dict[str, Any]] = []
        for number in range(len(self.decoder)):
            with self.decoder.loaded(number) as block:
                done = on_rank_zero(self.group, partial(self.folder.errors, number))
                if done is None:
                    read = self._read(block, number, states)
                    done = [self._entry(layer, read) for layer in read.layers() if layer.vectors]
                    on_rank_zero(self.group, partial(self.folder.save_errors, number, done))
                states = self._through(block, number, states)
            entries += done
            yield number
        table = document(entries, self.settings)
        on_rank_zero(self.group, partial(write_json, table, self.folder.out / TABLE))

    def choose(self, certify: CertifyChoice | None = None) -> None:
        """Choose the level of each layer within the budget, if it is not done.

        Raises:
            SettingError: the budget is below the least possible.
        """
        assert self.settings.budget is not None, "the caller asks first"
        asked = Budget.parse(self.settings.budget)
        found = on_rank_zero(self.group, partial(self.folder.choice, asked, certify))
        self.budget = {name: found[name] for name in ("budget", "cost", "error", "gap", "optimal")}
        self._choice = found["choice"]

    def _entry(self, layer: Layer, read: ReadBlock) -> dict[str, Any]:
        shape = read.turned(layer.name, layer.weight).shape
        dtype = self.decoder.dtype(layer.name)
        return entry(layer, shape, self.settings, self.levels.values(), dtype)

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
                self._views,
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

    def _level(self, name: str) -> Level:
        """The level of a layer: that of the run, or the one that was chosen within the budget."""
        chosen = self._choice.get(name)
        return self.settings.level() if chosen is None else self.levels[chosen]

    def _tree(self, names: Container[str]) -> Node:
        """The masks that some layers may have."""
        views = {name: view for name, view in self._views.items() if name in names}
        groups: dict[Level, dict[str, View]] = {}
        for name, view in views.items():
            groups.setdefault(self._level(name), {})[name] = view
        trees = [bounds(*level, group).tree(group) for level, group in groups.items()]
        if len(trees) == 1:
            return trees[0]
        nodes = {node.name: node for tree in trees for node in tree.tensors}
        return Node("the model", tuple(nodes[name] for name in views))

    @cached_property
    def _views(self) -> dict[str, View]:
        """Outputs and inputs of the layers of all blocks, by name of the weight."""
        layers = [layers_of(self.decoder, number) for number in range(len(self.decoder))]
        weights: dict[str, Any] = {n: each.weight for block in layers for n, each in block.items()}
        return views_of(self.decoder.model, weights)

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
        states = {name: self._first(windows) for name, windows in texts.items()}
        states |= {name: states[same] for name, same in through_dense.items()}
        for number in range(len(self.decoder)):
            begin = time.monotonic()
            with self.decoder.loaded(number) as block:
                for name in through_dense:
                    states[name] = self._through(block, number, states[name])
                report = on_rank_zero(self.group, partial(self.folder.report, number))
                if report is None:
                    read = self._read(block, number, states["calibration"])
                    report, masks, scores = self._prune(read)
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

    def _first(self, windows: Sequence[Tensor]) -> list[State]:
        return [self.decoder.first(tokens.to(self.decoder.device)) for tokens in windows]

    def _through(self, block: nn.Module, number: int, states: list[State]) -> list[State]:
        return [self.decoder.through(block, number, state) for state in states]

    def _read(self, block: nn.Module, number: int, states: list[State]) -> ReadBlock:
        return ReadBlock(self.decoder, number, block, states, self._slots, self.group)

    def _prune(
        self, read: ReadBlock
    ) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
        """Prune the layers of a block in place; what was done, the masks, and the scores."""
        found: dict[str, Any] = {}
        masks: dict[str, Tensor] = {}
        scores: dict[str, Tensor] = {}
        for layer in read.layers(self._decided):
            name, whole = layer.name, layer.weight.numel()
            about: dict[str, Any] = {"kept": whole, "total": whole, "vectors": layer.vectors}
            found[name] = about
            if not layer.vectors or (self.decides and layer.decided is None):
                about |= LEFT_DENSE  # nothing tells its weights apart
                continue
            level, dtype = self._level(name), self.decoder.dtype(name)
            pruned = pruned_layer(layer, self.settings, level, dtype)
            read.write(name, pruned.weight)
            masks[name] = read.turned(name, pruned.mask)
            if pruned.scores is not None:
                scores[name] = read.turned(name, pruned.scores)
            error = layer.error(pruned.weight)
            about |= {
                "kept": int(pruned.mask.count_nonzero()),
                "error": error,
                "relative_error": layer.relative(error),
                **pruned.report,
            }
            if name in self._choice:
                about["level"] = self._choice[name]
        report = {"block": read.name, "rounding": read.rounding, "layers": found}
        return report, masks, scores or None

    def calibration_losses(self) -> dict[str, float]:
        """The mean of −log p over the predicted calibration tokens, dense and sparse."""
        keys, known = {"dense": "dense calibration", "sparse": "calibration"}, [1] * len(self._own)
        return {n: fmean(self._losses(key, self._own, known)) for n, key in keys.items()}

    def losses(self) -> dict[str, list[float]]:
        """The mean −log p over the scored tokens of each test window, dense and sparse."""
        mine = slice(self.group.rank, None, self.group.size)
        numbers, known = range(len(self.test))[mine], self.test.known[mine]
        names = [each for each in ("dense", "sparse") if each in self._states]
        return {name: self._losses(name, numbers, known) for name in names}

    def _losses(self, name: str, numbers: Sequence[int], known: Sequence[int]) -> list[float]:
        """Of all windows, in order, the mean −log p after the first `known`; given this rank's."""
        states = zip(self._states[name], known, strict=True)
        own = [float(self.decoder.losses(s)[k - 1 :].double().mean()) for s, k in states]
        shared = gather_json(self.group, list(zip(numbers, own, strict=True)))
        return [loss for _, loss in sorted(chain(*shared))]

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
