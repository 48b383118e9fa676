import torch

from salakseg.distributed import (
    add_gradients,
    alone,
    any_of,
    as_first,
    following,
    from_first,
    gathered,
    is_first,
    joined,
    rank,
    summed,
    was_launched,
    world_size,
)
from salakseg.errors import ElsewhereError, InputError
from tests.processes import call, ended, started


def test_one_process_gets_back_what_it_gives() -> None:
    rows = torch.arange(6.0).view(3, 2).requires_grad_()
    with joined():
        assert not was_launched()
        assert (rank(), world_size(), is_first()) == (0, 1, True)
        assert summed(rows) is rows and gathered(rows) is rows
        assert torch.equal(following(rows), rows[[1, 2, 0]])
        assert any_of(True) and not any_of(False)
        assert from_first(lambda: "made") == "made"


def test_three_processes_know_each_other() -> None:
    call(3, "tests.test_distributed:in_three")


def in_three() -> None:
    with joined():
        me = rank()
        assert world_size() == 3 and is_first() == (me == 0)
        # Sums are those of all, gradients those of one's own part, or of what all make of it.
        part = torch.tensor([1.0, 2.0]).mul(me + 1).requires_grad_()
        total = summed(part * part)
        assert total.tolist() == [14, 56]
        total.sum().backward()
        assert torch.equal(part.grad, 2 * part.detach())  # type: ignore[arg-type]
        part.grad = torch.tensor([1.0, me])
        add_gradients([part, torch.zeros(3)])
        assert part.grad.tolist() == [3, 3]
        # Rows in their order, and the next one of each.
        rows = torch.tensor([[2 * me], [2 * me + 1]], dtype=torch.uint8)
        assert gathered(rows).flatten().tolist() == [0, 1, 2, 3, 4, 5]
        assert following(rows).flatten().tolist() == [2 * me + 1, (2 * me + 2) % 6]
        assert following(rows > 2).dtype == torch.bool
        # What one knows.
        assert any_of(me == 2) and not any_of(False)
        number, count, given = from_first(lambda: (me, world_size(), rows))
        assert (number, count, given.flatten().tolist()) == (0, 1, [0, 1])
        image = torch.full((1, 3, 2, 2), float(me)).contiguous(memory_format=torch.channels_last)
        as_first([image])
        assert not image.any()
        with alone():
            assert world_size() == 1


def one_fails() -> None:
    try:
        with joined():
            if rank() == 1:
                raise InputError("this file is damaged")
            any_of(False)
    except ElsewhereError as error:
        print("elsewhere", error.code)
    except InputError as error:
        print("told:", error)


def test_what_one_cannot_do_ends_all_and_is_told_once() -> None:
    code = "from tests.test_distributed import one_fails; one_fails()"
    (_, first), (_, second) = ended(started(2, "-c", code))
    assert first.strip().endswith("elsewhere 1")
    assert second.strip().endswith("told: this file is damaged")
    assert "damaged" not in first
