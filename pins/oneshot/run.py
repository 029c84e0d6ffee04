"""A run of `pins oneshot`: calibrate, prune and save the blocks of a decoder, one by one."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pins.distributed.collectives import gather_json, on_rank_zero
from pins.distributed.consistency import require_same_run
from pins.distributed.launch import local_rank
from pins.distributed.process_group import world
from pins.errors import ModelError, SettingError
from pins.models import smollm2
from pins.models.decoder import Decoder, State
from pins.models.digests import model_digest
from pins.models.parameters import views_of
from pins.models.pretrained import locate
from pins.oneshot.folder import Folder
from pins.oneshot.gram import Grams, linear_layers, shares
from pins.oneshot.layer import Layer
from pins.oneshot.layer_pruning import prune_layer
from pins.oneshot.methods.method import bounds
from pins.oneshot.methods.registry import method_named
from pins.oneshot.settings import Settings
from pins.oneshot.text import drawn, plain_text, sliding, text_digest
from pins.pruning.final_decision import FinalDecision
from pins.selection.tree import View
from pins.tasks import Task, load_task
from pins.tasks.language_modeling import perplexity
from pins.utils.devices import choose_device
from pins.utils.text_files import shown

NO_ERROR = {"error": 0.0, "relative_error": 0.0}


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
        for number in range(len(self.decoder)):
            self.method.require(
                settings.allocation(), settings.final_sparsity(), self._views(number)
            )
        task = load_task(settings.task, settings.data)
        self.digests = task.digests
        tokenizer, length = self.decoder.tokenizer, settings.length
        self.calibration = drawn(
            plain_text(task, task.train), tokenizer, length, settings.calibration, settings.seed
        )
        self._slots = shares(range(len(self.calibration)), self.group)
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
        self.reports: list[dict[str, Any]] = []
        self._states: dict[str, list[State]] = {}

    @property
    def about(self) -> str:
        """What the model is, as cards say it."""
        return smollm2.ABOUT if self.settings.model == smollm2.NAME else self.settings.model

    @property
    def left_dense(self) -> list[str]:
        """The weights of the layers that read nothing."""
        layers = [layer for report in self.reports for layer in report["layers"].items()]
        return [name for name, layer in layers if not layer["vectors"]]

    def decision(self, number: int) -> FinalDecision | None:
        """The files of a block's masks, to certify; None if they are no optimum of scores."""
        scores = self.folder.block_file(number, "scores.safetensors")
        if not scores.is_file():
            return None
        layers, settings = self.reports[number]["layers"], self.settings
        views = {name: v for name, v in self._views(number).items() if layers[name]["vectors"]}
        constraint = bounds(settings.allocation(), settings.final_sparsity(), views)
        return FinalDecision(
            scores=scores,
            cost=None,
            multiplier=None,
            masks=self.folder.block_file(number, "masks.safetensors"),
            certificate=self.folder.block_file(number, "certificate.json"),
            tree=constraint.tree(views),
            criterion=self.settings.method,
        )

    def _views(self, number: int) -> dict[str, View]:
        """Outputs and inputs of the layers of a block, by the names of their weights."""
        weights: dict[str, Any] = {n: each.weight for n, each in self._layers(number).items()}
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
            dense: pass the test text through the dense blocks too.
        """
        tested = self.test.tokens[self.group.rank :: self.group.size]
        texts = {
            "calibration": [self.calibration.tokens[each] for slot in self._slots for each in slot],
            "sparse": tested,
            **({"dense": tested} if dense else {}),
        }
        states = {
            name: [self.decoder.first(tokens.to(self.decoder.device)) for tokens in windows]
            for name, windows in texts.items()
        }
        for number in range(len(self.decoder)):
            begin = time.monotonic()
            with self.decoder.loaded(number) as block:
                if dense:
                    states["dense"] = self._through(block, number, states["dense"])
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
            layer = Layer(full, weight, grams.of(full), grams.vectors(full), self.group)
            if not layer.vectors:  # an expert without tokens: nothing tells its weights apart
                whole = weight.numel()
                found[full] = {"kept": whole, "total": whole, "vectors": 0} | NO_ERROR
                continue
            pruned = prune_layer(layer, self.settings)
            kept = self._as_stored(full, pruned.weight)
            stored.copy_(kept.T if turned else kept)
            masks[full] = pruned.mask.T.contiguous() if turned else pruned.mask
            if pruned.scores is not None:
                scores[full] = pruned.scores.T.contiguous() if turned else pruned.scores
            error = layer.error(kept)
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

    def _as_stored(self, name: str, weight: Tensor) -> Tensor:
        """New weights rounded as the files will have them.

        Raises:
            ModelError: one is no number there.
        """
        dtype = self.decoder.dtype(name)
        found = weight.to(dtype).float()
        if not bool(found.isfinite().all()):
            most = float(weight.abs().max())  # NaN if there is one
            raise ModelError(
                f"a weight of {shown(name)} became {most:.4g} by {self.settings.method}"
                f"{' and its refit' * self.settings.refit}, and its file holds {dtype} of at most "
                f"{torch.finfo(dtype).max:g}: save the model in bfloat16 or float32 first, or "
                "leave the weights as they are (wanda, without a refit)"
            )
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

    def perplexity(self, losses: list[float]) -> float:
        """exp of the mean −log p over all scored tokens, from that of each window."""
        total = sum(loss * count for loss, count in zip(losses, self.test.counts, strict=True))
        return perplexity(total / self.test.scored)


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
