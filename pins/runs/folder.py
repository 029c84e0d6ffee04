"""The folder of a run: its files, and when a run may write to it.

OUT/
├── config.json, model.safetensors, tokenizer …   what AutoModel.from_pretrained(OUT) loads
├── README.md             the model card
├── run.json              everything needed to repeat the run, and its results; written last
├── masks.safetensors     one bit a weight
├── packed.safetensors    the model as bit mask and kept values
├── scores.safetensors    importance at the final decision
├── inputs/               with keep_inputs: what they are computed from
├── certificate.json      the proof of that decision
├── sample.safetensors    some weights at the first decision, for plots and the explorer
├── checkpoints/          while the run lasts
└── .pins.lock            while a process writes here; one that was killed leaves it behind
"""

import tempfile
from pathlib import Path

from pins.errors import FileError
from pins.runs import checkpoints
from pins.utils.folder_lock import LOCK
from pins.utils.io import require_utf8

RUN, CARD, CERTIFICATE = "run.json", "README.md", "certificate.json"
SCORES, COSTS, MASKS = "scores.safetensors", "costs.safetensors", "masks.safetensors"
SAMPLE = "sample.safetensors"
CHECKPOINTS, INPUTS = "checkpoints", "inputs"


def require_free(out: Path, resume: bool) -> None:
    """Refuse a folder with other files, or with a run that can be resumed.

    To resume, the folder must have a checkpoint, or only files that a run writes before its first.

    Raises:
        FileError: names a file in the folder, or the folder's own name is not UTF-8.
    """
    require_utf8(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise FileError(f"{out} is a file: give a folder")
    found = sorted(each.name for each in out.iterdir() if each.name != LOCK)
    if not found:
        return
    if not resume:
        what = "a run that can go on with --resume" if CHECKPOINTS in found else "files"
        raise FileError(f"{out} holds {what} ({found[0]} …): give another folder")
    if RUN in found:
        raise FileError(f"{out} holds a run that is done: there is nothing to resume")
    others = [
        name
        for name in found
        if name not in (CHECKPOINTS, SCORES, COSTS, SAMPLE, INPUTS) and name[0] != "."
    ]
    if others and checkpoints.latest(out / CHECKPOINTS) is None:
        raise FileError(
            f"{out} holds files ({others[0]} …) and no checkpoint to resume from: give another "
            "folder"
        )


def require_writable(out: Path) -> None:
    """Make the folder and test that files can be written to it, before the first step.

    Raises:
        FileError: they cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise FileError(f"{out} cannot be written: {error.strerror or error}") from error
