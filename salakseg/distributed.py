"""Several processes as one run: started by `torchrun`, connected by `torch.distributed`.

    torchrun --nproc-per-node 4 -m salakseg train

Each process of W does its share of every batch and knows the sums over all of them, so that each
decides the same. Process 0 alone speaks and writes. In one process alone every function here gives
back what it is given.

What one process cannot do ends all of them, with one line: it says why and ends, the others find
their connection cut, and that it has been said.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

from salakseg.console import console
from salakseg.errors import ElsewhereError, InputError, WorkError

# Process 0 may measure, describe or replay meanwhile.
PATIENCE = timedelta(minutes=60)
ANSWER = timedelta(seconds=2)
TOLD = "told"

T = TypeVar("T")

_store: dist.Store | None = None


def was_launched() -> bool:
    """Whether `torchrun`, or what sets the same variables, started this process among others."""
    return dist.is_available() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def was_restarted() -> bool:
    """Whether `torchrun` started this process in the place of one that failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def world_size() -> int:
    """W, the processes of the run."""
    return 1 if _store is None else dist.get_world_size()


def rank() -> int:
    """Which of them this one is, from 0."""
    return 0 if _store is None else dist.get_rank()


def is_first() -> bool:
    """Whether this is the process that speaks and writes."""
    return rank() == 0


def local_rank() -> int:
    """Which of the processes of this machine this one is, from 0."""
    return 0 if _store is None else int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """How many processes share this machine."""
    return 1 if _store is None else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined() -> Iterator[None]:
    """Connect the processes meanwhile; of one alone, or where they are connected already, nothing.

    Where a program of somebody else's has connected its processes, each is on its own here.

    Raises:
        InputError, WorkError: as within; of the same failure in several processes, in one of them.
        ElsewhereError: another process failed, and has said why.
    """
    global _store
    if _store is not None or not was_launched() or dist.is_initialized():
        yield
        return
    try:
        store, number, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        store = _of_this_start(store, number, size)
        dist.init_process_group(store=store, rank=number, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise WorkError(
            f"the processes cannot be connected ({str(error).splitlines()[0]}); start them by "
            "torchrun, and look whether the machines reach each other at MASTER_ADDR, MASTER_PORT"
        ) from error
    _store, quiet = store, console.quiet
    console.quiet = quiet or number > 0
    try:
        yield
        any_of(False)  # all are here
    except Exception as error:
        if not _tell(number):
            raise ElsewhereError(2 if isinstance(error, InputError) else 1) from error
        if isinstance(error, InputError):
            error.of_one = True
        raise
    finally:
        _store, console.quiet = None, quiet
        # Where the others are gone this is all that can be done without a wait for them.
        dist.destroy_process_group()


def _of_this_start(store: dist.Store, number: int, size: int) -> dist.Store:
    """The part of the store that the processes alive now share.

    After a failure `torchrun` starts others with the same store: they would find the addresses of
    the dead in it, and wait for them. (Its count of restarts differs from machine to machine.) So
    process 0 names a part of it, and each of the others takes a name that it gets an answer by.
    """
    own = uuid4().hex
    if number == 0:
        store.set("start", own)
        for other in range(1, size):
            store.set(f"{own}/{other}/{store.get(f'{own}/{other}').decode()}", "here")
        return dist.PrefixStore(own, store)
    until = time.monotonic() + PATIENCE.total_seconds()
    while True:
        start = store.get("start").decode()
        store.set(f"{start}/{number}", own)
        try:
            store.wait([f"{start}/{number}/{own}"], ANSWER)
            return dist.PrefixStore(start, store)
        except dist.DistStoreError:
            if time.monotonic() > until:
                raise


def _tell(number: int) -> bool:
    """Whether this process is the first one that has something to tell."""
    assert _store is not None
    try:
        return _store.add(TOLD, 1) == 1
    except RuntimeError:  # the process that keeps the store is gone
        return number == 0


@contextmanager
def alone() -> Iterator[None]:
    """Meanwhile this process does not ask the others, who wait for it."""
    global _store
    store, _store = _store, None
    try:
        yield
    finally:
        _store = store


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if _store is None:
        return flag
    value = torch.tensor(int(flag))
    _collect(dist.all_reduce, value, dist.ReduceOp.MAX)
    return bool(value)


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in process 0, where alone it is called: tensors on the CPU and values."""
    if _store is None:
        return make()
    values: list[Any] = [None]
    if is_first():
        with alone():
            values = [make()]
    _collect(dist.broadcast_object_list, values, src=0, device=torch.device("cpu"))
    return values[0]


def everyones(value: T) -> list[T]:
    """What each process has, in their order: plain values."""
    if _store is None:
        return [value]
    values: list[Any] = [None] * world_size()
    _collect(dist.all_gather_object, values, value)
    return values


def as_first(tensors: Iterable[Tensor]) -> None:
    """Give all tensors the values of process 0, in place."""
    if _store is not None:
        for tensor in tensors:
            value = tensor.detach().contiguous()
            _collect(dist.broadcast, value, src=0)
            tensor.detach().copy_(value)


class _Sum(torch.autograd.Function):
    """Each process adds the gradient of its own part; see `add_gradients`."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        _collect(dist.all_reduce, total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def summed(part: Tensor) -> Tensor:
    """The sum over all processes, of the same bits in each.

    Its gradient goes into the part of this process alone: that of a loss is the sum over the
    processes of what each finds.
    """
    return part if _store is None else _Sum.apply(part)


def gathered(rows: Tensor) -> Tensor:
    """(n, …) of each process → (W · n, …), in their order."""
    if _store is None:
        return rows
    rows = rows.detach().contiguous()
    of_all = [torch.empty_like(rows) for _ in range(world_size())]
    _collect(dist.all_gather, of_all, rows)
    return torch.cat(of_all)


def following(rows: Tensor) -> Tensor:
    """Each row's next one, (n, …): of the last that of the next process; after the last row of all
    comes the first."""
    if _store is None:
        return rows.roll(-1, 0)
    first = gathered(rows[:1])[(rank() + 1) % world_size()]
    return torch.cat([rows[1:], first[None]])


def add_gradients(parameters: Iterable[Tensor]) -> None:
    """Give each parameter the sum of its gradients over all processes, in one message."""
    if _store is None:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    _collect(dist.all_reduce, flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])


def _collect(call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Raise `WorkError` where the other processes are gone."""
    try:
        call(*arguments, **named)
    except RuntimeError as error:
        raise WorkError(
            "another process of this run ended without a word: killed, or its machine is gone; "
            "what was saved before stays"
        ) from error
