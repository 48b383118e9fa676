"""Saves in the background, one at a time, from copies in host memory."""

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from salakseg.console import console
from salakseg.distributed import is_first
from salakseg.errors import InputError, WorkError
from salakseg.model.torch_files import write_torch_file
from salakseg.training.saved_files import number_of, prune

# Seconds for which a save may be waited for before it is worth a line.
WAIT_TO_TELL = 2


class Saver:
    """Writes files of the family in the background, one save at a time.

    A save that fails costs a warning, not the run: the files of the save before stay, and the next
    save tries again. As a context manager it closes itself, and then does not hide an error that
    ends the block.

    Of several processes the first one writes.

    Args:
        keep_checkpoints: after each `checkpoint_N.pth`, keep only this many of them; None: all.
    """

    def __init__(self, keep_checkpoints: int | None = None) -> None:
        if keep_checkpoints is not None and keep_checkpoints < 1:
            raise InputError(f"--keep-checkpoints {keep_checkpoints}: must be at least 1")
        self._keep = keep_checkpoints
        # Its thread is no daemon: Python does not end before the file in hand is whole.
        self._thread = ThreadPoolExecutor(1, "saver")
        self._in_flight: Future[None] | None = None
        self._unwritten: dict[Path, Any] = {}
        self._staged: list[Tensor] = []
        self._failed: WorkError | None = None
        self._whole: set[Path] = set()
        self._waiting_told = False

    def save(self, files: dict[Path, Any]) -> None:
        """Copy all tensors of `files` (path → content) to memory of their own, which is kept for
        the next save; write in order.

        Returns when they are copied; waits for the save before. Contents are dictionaries and
        lists of tensors on any device and plain values. Where one file fails, those after it are
        not written: a checkpoint names the best model that came before it.
        """
        if not is_first():
            return
        began = time.monotonic()
        self.wait()
        waited = time.monotonic() - began
        if waited >= WAIT_TO_TELL and not self._waiting_told:
            self._waiting_told = True
            console.print(
                f"Training waited {waited:.0f} s for the save before to reach the disk; a higher "
                "--save-latest-every waits less often (train --resume takes it)"
            )
        # A best model that could not be written comes only once; it goes first.
        unwritten = {p: c for p, c in self._unwritten.items() if p not in files}
        copied, self._staged = host_copy(files, () if self._unwritten else self._staged)
        self._in_flight = self._thread.submit(self._write, unwritten | copied)

    def wait(self) -> None:
        """Return when nothing is being written: before a fork, say, or before reading a file."""
        if self._in_flight is not None:
            self._in_flight.result()
            self._in_flight = None

    def close(self) -> None:
        """Wait for the last save.

        Raises:
            WorkError: it failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
        if self._failed is not None:
            raise self._failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._thread.shutdown()

    def _write(self, files: dict[Path, Any]) -> None:
        path = Path()
        try:
            for path in list(files):
                write_torch_file(path, files[path])
                del files[path]
                self._whole.add(path)
                if self._keep is not None and number_of(path) is not None:
                    prune(path.parent, self._keep, self._whole)
        except (OSError, RuntimeError) as error:
            if self._failed is None:
                console.print(
                    f"WARNING: {path}: cannot be written ({_reason(error)}). Training goes on, "
                    "the files of the save before stay, the next save tries again: make room"
                )
            self._failed = saving_failed(path, error)
            # Periodic ones are not kept for another try: they would pile up in memory.
            self._unwritten = {p: c for p, c in files.items() if number_of(p) is None}
        else:
            if self._failed is not None:
                console.print("Saving works again")
            self._failed, self._unwritten = None, {}


def host_copy(content: Any, spare: Iterable[Tensor] = ()) -> tuple[Any, list[Tensor]]:
    """A copy in host memory of all tensors in nested dictionaries, lists and tuples.

    A tensor that is in it more than once is copied once. On CUDA the copies run side by side, with
    one wait at the end.

    Args:
        spare: tensors of an earlier copy that nobody reads any more; their memory is used again,
            since asking the system for half a gigabyte takes longer than filling it.

    Returns:
        The copy, and its tensors.
    """
    free: dict[Any, list[Tensor]] = {}
    for tensor in spare:
        free.setdefault(_layout(tensor), []).append(tensor)
    copies: dict[Any, Tensor] = {}
    copied = _host_copy(content, copies, free)
    for device in {key[0] for key in copies if key[0].type == "cuda"}:
        torch.cuda.synchronize(device)
    return copied, list(copies.values())


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.stride()


def _host_copy(content: Any, copies: dict[Any, Tensor], free: dict[Any, list[Tensor]]) -> Any:
    if isinstance(content, Tensor):
        # Each state_dict() gives new objects for the same memory.
        key = (content.device, content.data_ptr(), *_layout(content))
        if key not in copies:
            source, again = content.detach(), free.get(_layout(content))
            target = again.pop() if again else torch.empty_like(source, device="cpu")
            copies[key] = target.copy_(source, non_blocking=source.is_cuda)
        return copies[key]
    if isinstance(content, dict):
        # Not `{}`: a state dict has an attribute, the versions of its modules.
        copied = copy(content)
        for name, value in content.items():
            copied[name] = _host_copy(value, copies, free)
        return copied
    if isinstance(content, list | tuple):
        return type(content)(_host_copy(value, copies, free) for value in content)
    return content


def _reason(error: BaseException) -> str:
    # torch.save reports a full disk as a RuntimeError about a position, over the system's error.
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or (str(error) or repr(error)).splitlines()[0]


def saving_failed(path: Path, error: OSError | RuntimeError) -> WorkError:
    """What to tell where a file of the family cannot be written."""
    return WorkError(
        f"{path}: cannot be written ({_reason(error)}); the files of the last save are "
        "whole: make room, then salakseg train --resume"
    )
