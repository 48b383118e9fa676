from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional

from salakseg.distributed import joined, rank, summed
from salakseg.model.generator import create_generator
from salakseg.training.batch_norm import batch_norm, over_all_processes, statistics_kept
from tests.processes import call


def test_norms_of_two_processes_are_those_of_the_whole_batch() -> None:
    call(2, "tests.training.test_batch_norm:in_two")


def in_two() -> None:
    torch.manual_seed(0)
    whole = torch.randn(6, 4, 5, 5) * 3 + 1
    weight_of_loss = torch.rand_like(whole)
    alone, mine = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    x, part = whole.clone().requires_grad_(), whole.clone().requires_grad_()
    (alone(x) * weight_of_loss).sum().backward()
    with joined(), over_all_processes(torch.device("cpu")):
        own = slice(3 * rank(), 3 * rank() + 3)
        y = mine(part[own])
        (y * weight_of_loss[own]).sum().backward()
    assert x.grad is not None and part.grad is not None
    torch.testing.assert_close(y, alone.train()(whole)[own])
    torch.testing.assert_close(part.grad[own], x.grad[own])
    again = nn.BatchNorm2d(4)
    again(whole)
    torch.testing.assert_close(mine.running_mean, again.running_mean)
    torch.testing.assert_close(mine.running_var, again.running_var)
    assert mine.num_batches_tracked == 1
    for name in ("weight", "bias"):
        own, both = getattr(mine, name).grad.clone(), getattr(alone, name).grad
        with joined():
            torch.testing.assert_close(summed(own), both)


def test_norms_of_two_processes_in_bfloat16() -> None:
    call(2, "tests.training.test_batch_norm:in_two_in_bfloat16")


def in_two_in_bfloat16() -> None:
    torch.manual_seed(0)
    exact = torch.randn(4, 3, 8, 8) * 0.1 + 2
    whole = exact.bfloat16().contiguous(memory_format=torch.channels_last)
    of_loss = torch.randn_like(exact)
    exact.requires_grad_()
    (functional.batch_norm(exact, None, None, training=True) * of_loss).sum().backward()
    with joined():
        own = slice(2 * rank(), 2 * rank() + 2)
        part = whole[own].detach().requires_grad_()
        y = batch_norm(part, None, None, training=True)
        (y * of_loss[own]).sum().backward()
    assert y.dtype == torch.bfloat16 and part.grad is not None and exact.grad is not None
    torch.testing.assert_close(
        part.grad.float(), exact.grad[own], atol=0.1 * float(exact.grad.abs().max()), rtol=0
    )


def test_a_pooled_picture_in_each_process_is_a_batch_of_as_many() -> None:
    call(2, "tests.training.test_batch_norm:one_in_each_of_two")


def one_in_each_of_two() -> None:
    torch.manual_seed(0)
    alone = create_generator("deeplabv3plus-mobilenet_v2", 3, "none").train()
    for module in alone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    shared, whole = deepcopy(alone), torch.rand(2, 3, 64, 64)
    expected = alone(whole)
    with joined(), over_all_processes(torch.device("cpu")):
        number = rank()
        logits = shared(whole[number : number + 1])
    # The two pooled pictures are much alike, so what tells them apart is mostly rounding.
    torch.testing.assert_close(logits, expected[number : number + 1], atol=0.01, rtol=0)


def test_in_evaluation_the_norms_are_torchs_own() -> None:
    x, mean, variance = torch.randn(2, 3, 4), torch.randn(3), torch.rand(3)
    assert torch.equal(batch_norm(x, mean, variance), functional.batch_norm(x, mean, variance))


def test_running_statistics_are_kept() -> None:
    norm = nn.BatchNorm2d(2)
    with statistics_kept(norm):
        norm(torch.randn(4, 2, 3, 3))
    assert norm.running_mean is not None and not norm.running_mean.any()
    assert norm.num_batches_tracked == 0 and norm.momentum == 0.1
    norm(torch.randn(4, 2, 3, 3))
    assert norm.running_mean.any() and norm.num_batches_tracked == 1
