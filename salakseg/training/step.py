"""One S4GAN iteration, readable top to bottom.

The roles are the paper's: the generator G segments, the discriminator D tells drawn class maps from
predicted ones, feature matching pulls D's mean features of predictions to those of drawn maps, and
unlabelled predictions that pass a judge become their own labels. What is added: the labels come
from a teacher, the running mean of G's weights, on a weak view, and G learns them on a strong one;
trust is given pixel by pixel (`trust.PixelTrust`) as well as image by image (`trust.ImageTrust`).
Of several processes each does this with its share of the batch; what is `summed`, `gathered` or of
the `following` sample is of the whole one.
In one file, long as it is: an iteration is read best where nothing of it is elsewhere.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.utils.checkpoint import checkpoint

from salakseg.classes import IGNORE_INDEX
from salakseg.data.augment import (
    FROM_LABELED,
    NEIGHBOR,
    color_view,
    cutmix,
    to_float,
    weak_view,
)
from salakseg.data.random_numbers import draw_bits
from salakseg.data.stream import Batch
from salakseg.distributed import (
    add_gradients,
    as_first,
    following,
    rank,
    summed,
)
from salakseg.errors import WorkError
from salakseg.metrics import confusion_matrix
from salakseg.model.discriminator import Discriminator
from salakseg.model.generator import Generator
from salakseg.model.names import TINY_GENERATOR
from salakseg.training.batch_norm import over_all_processes, statistics_kept, synchronised
from salakseg.training.losses import (
    at_most,
    cross_entropy_loss,
    discriminator_loss,
    drawn_class_maps,
    feature_matching_loss,
    self_training_loss,
)
from salakseg.training.options import LABELED_COLOR, S4GAN_PAPER, SUPERVISED, Recipe
from salakseg.training.rates import learning_rate_factor, self_training_ramp, teacher_decay
from salakseg.training.trust import (
    DISCRIMINATOR,
    ClassShares,
    ImageTrust,
    PixelTrust,
    Probe,
    mean_confidence,
    rank_correlation,
)

# The probability with which the paper's D drops features.
PAPER_DROPOUT = 0.5
DISCRIMINATOR_RATE = 2e-4
WEIGHT_DECAY = 0.01
LOSS_NAMES = ("loss_ce", "loss_fm", "loss_st", "loss_d", "st_count", "st_pixels")


def _float32(logits: Tensor) -> Tensor:
    """Class after class in memory: on a CPU softmax takes a fifth of its time so."""
    return logits.to(torch.float32, memory_format=torch.contiguous_format)


def _pseudo_labels(labels: Tensor, valid: Tensor) -> Tensor:
    """uint8 (B, H, W): the labels, 255 where there is no ground."""
    return labels.to(torch.uint8).masked_fill(~valid, IGNORE_INDEX)


def _share(trust: Tensor, valid: Tensor) -> Tensor:
    """Share of the pixels with ground that are trusted, in the batch of all processes."""
    return summed(trust.sum()) / summed(valid.sum()).clamp(min=1)


@dataclass
class View:
    """A batch as the networks see it, on the device.

    Attributes:
        x: float32 (B, C, P, P) in [0, 1].
        y: uint8 (B, P, P), class indices or 255.
        valid: bool (B, P, P): where there is ground.
        plan: float32 (B, 22), see `augment.plan`.
    """

    x: Tensor
    y: Tensor
    valid: Tensor
    plan: Tensor


@dataclass
class Lesson:
    """What the unlabelled images of an iteration teach, on the device.

    Attributes:
        x: float32 (U, C, P, P) in [0, 1], the strong view.
        labels: uint8 (U, P, P), the teacher's, or drawn ones where a labelled image is mixed in;
            255 where there is no ground.
        trust: bool (U, P, P).
        accepted, trusted: scalars: images that teach; share of the pixels that do.
    """

    x: Tensor
    labels: Tensor
    trust: Tensor
    accepted: Tensor
    trusted: Tensor


class Step:
    """Networks, optimisers and trust of a run; calling it does one iteration.

    Attributes:
        generator: G, trained.
        teacher: the running mean of G's weights; what is evaluated and saved as the model.
        discriminator: D; None for the supervised method.
        self_trains: whether the unlabelled images teach, D with them; None before that is decided,
            see `Run.decide_on_self_training`.
        totals: float32 (7,), sums of `LOSS_NAMES` since they were last taken, and their number.
        last_st_count: int64 scalar tensor, images accepted in the last iteration.
        train_confusion: int64 (K, K), G on the training batches since it was last taken.
    """

    def __init__(
        self,
        generator: Generator,
        num_classes: int,
        recipe: Recipe,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> None:
        self.recipe, self.device, self.dtype = recipe, device, dtype
        generator.network = synchronised(generator.network, device)
        self.generator = generator.to(memory_format=torch.channels_last).to(device).train()
        as_first([*generator.state_dict().values(), generator.mean, generator.std])
        self.teacher = deepcopy(self.generator).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(), weight_decay=WEIGHT_DECAY, fused=device.type != "mps"
        )
        scale = dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=scale)
        self.discriminator: Discriminator | None = None
        self.self_trains: bool | None = None
        if recipe.method != SUPERVISED:
            # Beside `tiny`, the paper's D would take most of the time.
            width = 16 if generator.name == TINY_GENERATOR else 64
            dropout = PAPER_DROPOUT if recipe.method == S4GAN_PAPER else 0.0
            discriminator = Discriminator(num_classes, width, dropout, generator.channels)
            self.discriminator = discriminator.to(memory_format=torch.channels_last).to(device)
            as_first(self.discriminator.state_dict().values())
            self.optimizer_D = torch.optim.Adam(
                self.discriminator.parameters(),
                DISCRIMINATOR_RATE,
                betas=(0.5, 0.99),
                fused=device.type != "mps",
            )
            self.scaler_D = torch.amp.GradScaler(device.type, enabled=scale)
            self.class_shares = ClassShares(num_classes, device)
            self.pixel_trust = PixelTrust(num_classes, recipe.kept_pixels, device)
            self.image_trust = ImageTrust(recipe.threshold_st, recipe.accepted_images, device)
        # The teacher's tensors with G's, listed once: numbers, and counts where a network has some.
        student = self.generator.state_dict()
        pairs = [(mean, student[key]) for key, mean in self.teacher.state_dict().items()]
        self._numbers = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.totals = torch.zeros(len(LOSS_NAMES) + 1, device=device)
        self.last_st_count = torch.zeros((), dtype=torch.int64, device=device)
        self.train_confusion = torch.zeros(
            num_classes, num_classes, dtype=torch.int64, device=device
        )

    def _parameter_groups(self) -> list[dict[str, Any]]:
        slow = {id(p) for p in self.generator.encoder_parameters() if self.recipe.pretrained}
        groups = [
            {
                "params": [p for p in self.generator.parameters() if (id(p) in slow) == is_slow],
                "lr": self.recipe.learning_rate * rate,
                "rate": rate,
            }
            for is_slow, rate in ((False, 1.0), (True, self.generator.encoder_rate))
        ]
        return [group for group in groups if group["params"]]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None
        )

    def __call__(self, iteration: int, labeled: Batch, unlabeled: Batch | None) -> None:
        """Do iteration `iteration` (from 1) on uint8 batches of the stream.

        Without a wait for the device, where the batches are in pinned memory: losses are summed in
        `totals`, on the device.
        """
        recipe = self.recipe
        self._iteration = iteration
        factor = learning_rate_factor(iteration, recipe.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * group["rate"] * factor

        view_l = self._view(labeled, LABELED_COLOR)
        if unlabeled is None or self.is_supervised:
            self._supervised(view_l)
        else:
            self.optimizer_D.param_groups[0]["lr"] = DISCRIMINATOR_RATE * factor
            if recipe.method == S4GAN_PAPER:
                self._s4gan_paper(view_l, self._view(unlabeled, LABELED_COLOR))
            else:
                self._s4gan(view_l, self._view(unlabeled))
        self._update_teacher(teacher_decay(iteration, recipe.num_steps))

    @property
    def is_supervised(self) -> bool:
        """Whether labelled images alone teach, by the method or by what was decided."""
        return self.discriminator is None or self.self_trains is False

    def _view(self, batch: Batch, color: float = 0.0) -> View:
        """The weak view of a batch, on the device, with `color` of the strong one's colours."""
        batch = batch.to(self.device)
        plan = batch.plan
        assert plan is not None, "no batch of a TrainingStream"
        x, y, valid = weak_view(batch.images, batch.masks, batch.valid, plan)
        return View(self._coloured(x, plan, color) if color else x, y, valid, plan)

    def _coloured(self, x: Tensor, plan: Tensor, strength: float) -> Tensor:
        return color_view(x, plan, strength, self.generator.colours)

    def _supervised(self, labeled: View) -> None:
        (logits_l,) = self._segmented(labeled.x)  # (B, K, P, P)
        loss_ce = cross_entropy_loss(logits_l, labeled.y)
        self._descend(loss_ce, self.optimizer, self.scaler)
        self._note(logits_l, labeled.y, loss_ce=loss_ce)

    def _s4gan_paper(self, labeled: View, unlabeled: View) -> None:
        """Section 3.1 of the paper: G is its own teacher, on one view, D alone decides."""
        assert self.discriminator is not None
        images = torch.cat([labeled.x, unlabeled.x])
        valid = torch.cat([labeled.valid, unlabeled.valid])
        logits_l, logits_u = self._segmented(labeled.x, unlabeled.x)
        p_u = logits_u.softmax(1)  # (U, K, P, P)
        drawn = drawn_class_maps(labeled.y, logits_l.detach().softmax(1))  # (B, K, P, P)

        self.discriminator.requires_grad_(False)
        scores, features = self._looks(images, torch.cat([drawn, p_u]), valid)
        real, fake = features.split([len(drawn), len(p_u)])
        confidence, labels = p_u.detach().max(1)
        accepted = self.image_trust.accepted(
            scores[len(drawn) :].detach(), mean_confidence(confidence, unlabeled.valid)
        )  # (U,)
        trust = accepted[:, None, None] & unlabeled.valid
        pseudo = _pseudo_labels(labels, unlabeled.valid)
        # As in the paper, D drops other features when it learns.
        self.discriminator.requires_grad_(True)
        scores, _ = self._looks(images, torch.cat([drawn, p_u.detach()]), valid)
        self._learn(
            labeled.y,
            logits_l,
            loss_ce=cross_entropy_loss(logits_l, labeled.y),
            loss_fm=feature_matching_loss(real, fake),
            loss_st=self_training_loss(logits_u, pseudo, trust),
            loss_d=discriminator_loss(*scores.split([len(drawn), len(p_u)])),
            st_count=summed(accepted.sum()),
            st_pixels=_share(trust, unlabeled.valid),
        )

    def _s4gan(self, labeled: View, unlabeled: View) -> None:
        """The losses in the paper's words; what differs is the lesson, and whom D looks at."""
        assert self.discriminator is not None
        lesson = self._lesson(labeled, unlabeled)
        logits_l, logits_u = self._segmented(labeled.x, lesson.x)
        p_l = logits_l.softmax(1)  # (B, K, P, P)
        drawn = drawn_class_maps(labeled.y, p_l.detach())  # (B, K, P, P)

        # G learns through D's features of its maps of the labelled images.
        self.discriminator.requires_grad_(False)
        _, fake = self._looks(labeled.x, p_l, labeled.valid)
        # D learns on the labelled images alone, each with its drawn map and with G's. If it learnt
        # from what it judges, it would know the unlabelled images: they never have a drawn map.
        self.discriminator.requires_grad_(True)
        scores, features = self._looks(
            torch.cat([labeled.x, labeled.x]),
            torch.cat([drawn, p_l.detach()]),
            torch.cat([labeled.valid, labeled.valid]),
        )
        real = features.chunk(2)[0].detach()
        loss_ce = cross_entropy_loss(logits_l, labeled.y)
        self._learn(
            labeled.y,
            logits_l,
            self.ramp(self._iteration),
            loss_ce=loss_ce,
            loss_fm=at_most(feature_matching_loss(real, fake), loss_ce),
            loss_st=self_training_loss(logits_u, lesson.labels, lesson.trust),
            loss_d=discriminator_loss(*scores.chunk(2)),
            st_count=lesson.accepted,
            st_pixels=lesson.trusted,
        )

    def ramp(self, iteration: int) -> float:
        """Weight of self-training in an iteration, of λ_ST."""
        recipe = self.recipe
        return self_training_ramp(
            iteration, recipe.num_steps, recipe.self_training_begins, recipe.self_training_full
        )

    @torch.no_grad()
    def _lesson(self, labeled: View, weak: View) -> Lesson:
        """The teacher labels the weak view, two judges say what to trust, the strong view hides."""
        assert self.discriminator is not None
        recipe = self.recipe
        with self._autocast():
            p_teacher = _float32(self.teacher(weak.x)).softmax(1)  # (U, K, P, P)
        if recipe.class_shares:
            hold = self.ramp(self._iteration) > 0
            p_teacher = self.class_shares.kept(p_teacher, weak.valid, hold)
        confidence, labels = p_teacher.max(1)  # (U, P, P)
        pseudo = _pseudo_labels(labels, weak.valid)

        score = None
        if self.image_trust.judge == DISCRIMINATOR:
            score, _ = self._looks(weak.x, p_teacher, weak.valid)
        accepted = self.image_trust.accepted(score, mean_confidence(confidence, weak.valid))  # (U,)
        trust = self.pixel_trust.trusted(confidence, pseudo) & accepted[:, None, None]

        # Mixed with other unlabelled images, and with labelled ones.
        size = weak.x.shape[-1]
        neighbor = cutmix(size, weak.plan[:, NEIGHBOR] * recipe.cutmix)
        from_labeled = cutmix(size, weak.plan[:, FROM_LABELED] * recipe.labeled_cutmix)

        def mixed(of_unlabeled: Tensor, of_labeled: Tensor) -> Tensor:
            return from_labeled.mix(neighbor.mix(of_unlabeled, following(of_unlabeled)), of_labeled)

        return Lesson(
            mixed(self._coloured(weak.x, weak.plan, recipe.strong_color), labeled.x),
            mixed(pseudo, labeled.y),
            mixed(trust, torch.ones_like(trust)),
            summed(accepted.sum()),
            _share(trust, weak.valid),
        )

    def _segmented(self, *batches: Tensor) -> list[Tensor]:
        """G's logits on each batch, float32; in one pass, or in several of `recipe.micro_batch`
        patches of each batch, whose activations are not kept but made again for the gradients."""
        of_a_pass = self.recipe.micro_batch or len(batches[0])
        logits = []
        for number, parts in enumerate(zip(*(b.split(of_a_pass) for b in batches), strict=True)):
            # Dropout draws from torch's global generator: give it a state of this pass's own.
            place = rank() * -(-len(batches[0]) // of_a_pass) + number
            bits = draw_bits(self.recipe.seed, "dropout", self._iteration, place + 1)[place]
            torch.manual_seed(int(bits >> 1))
            x = torch.cat(parts)
            with self._autocast(), over_all_processes(self.device):
                if len(x) == sum(map(len, batches)):
                    y = self.generator(x)
                else:
                    y = checkpoint(
                        self.generator,
                        x,
                        use_reentrant=False,
                        context_fn=lambda: (nullcontext(), self._repeating()),
                    )
            logits.append(_float32(y).chunk(len(batches)))
        if len(logits) == 1:
            return list(logits[0])
        return [torch.cat(of_batch) for of_batch in zip(*logits, strict=True)]

    @contextmanager
    def _repeating(self) -> Iterator[None]:
        """For a pass that is made again: no running statistics count it twice."""
        with statistics_kept(self.generator), over_all_processes(self.device):
            yield

    def _looks(self, images: Tensor, maps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """D's scores (B,) and mean features (B, F)."""
        assert self.discriminator is not None
        with self._autocast():
            scores, features = self.discriminator(images, maps, valid)
        return scores, features

    def _learn(self, y_l: Tensor, logits_l: Tensor, ramp: float = 1.0, **losses: Tensor) -> None:
        """G descends L_G = L_CE + λ_FM · L_FM + λ_ST · L_ST; D its own loss."""
        loss_g = losses["loss_ce"] + self.recipe.lambda_fm * losses["loss_fm"]
        loss_g = loss_g + self.recipe.lambda_st * ramp * losses["loss_st"]
        self._descend(loss_g, self.optimizer, self.scaler)
        self._descend(losses["loss_d"], self.optimizer_D, self.scaler_D)
        self._note(logits_l, y_l, **losses)

    def _descend(
        self, loss: Tensor, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> None:
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        add_gradients(p for group in optimizer.param_groups for p in group["params"])
        scaler.step(optimizer)
        scaler.update()

    def _note(self, logits_l: Tensor, y_l: Tensor, **losses: Tensor) -> None:
        zero = torch.zeros((), device=self.device)
        self.last_st_count = losses.get("st_count", torch.zeros_like(self.last_st_count))
        values = [losses.get(name, zero).detach().float() for name in LOSS_NAMES]
        self.totals += torch.stack([*values, torch.ones_like(zero)])
        # On a CPU, argmax over the channels takes several times as long as max.
        answer = logits_l.detach().max(1).indices
        self.train_confusion += summed(confusion_matrix(y_l, answer, len(self.train_confusion)))

    @torch.no_grad()
    def _update_teacher(self, decay: float) -> None:
        means, values = zip(*self._numbers, strict=True)
        torch._foreach_lerp_(means, values, 1 - decay)
        if self._counts:
            counts, values = zip(*self._counts, strict=True)
            torch._foreach_copy_(counts, values)

    @torch.no_grad()
    def probe(self, batches: list[Batch]) -> Probe:
        """Measure the two judges on labelled patches that G does not train on."""
        assert self.discriminator is not None
        self.discriminator.eval()
        columns: list[Tensor] = []
        for batch in batches:
            batch = batch.to(self.device)
            assert batch.masks is not None
            images = to_float(batch.images)
            with self._autocast():
                maps = self.teacher(images).float().softmax(1)
                scores, _ = self.discriminator(images, maps, batch.valid)
            confidence, labels = maps.max(1)
            known = batch.masks < len(self.train_confusion)
            right = ((labels == batch.masks) & known).sum((1, 2)) / known.sum((1, 2))
            columns.append(torch.stack([scores, mean_confidence(confidence, batch.valid), right]))
        self.discriminator.train()
        table = torch.cat(columns, 1).double().cpu().numpy()
        # Of a patch without a class nobody knows how right its map is.
        scores_d, confidences, accuracy = table[:, ~np.isnan(table[2])]
        return Probe(rank_correlation(scores_d, accuracy), rank_correlation(confidences, accuracy))

    def state_dict(self) -> dict[str, Any]:
        """All that an exact continuation needs of the networks, tensors and plain values."""
        state: dict[str, Any] = {
            "model_state": self.generator.network.state_dict(),
            "teacher_state": self.teacher.network.state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "scaler_state": self.scaler.state_dict(),
            "totals": self.totals,
            "train_confusion": self.train_confusion,
        }
        if self.discriminator is not None:
            state |= {
                "model_D_state": self.discriminator.state_dict(),
                "optimizer_D_state": self.optimizer_D.state_dict(),
                "scaler_D_state": self.scaler_D.state_dict(),
                "confidence_histogram": self.pixel_trust.histogram,
                "class_shares": self.class_shares.state_dict(),
                "image_trust": self.image_trust.state_dict(),
                "self_trains": self.self_trains,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; raises KeyError or RuntimeError where it does not fit."""
        self.generator.network.load_state_dict(state["model_state"])
        self.teacher.network.load_state_dict(state["teacher_state"])
        self.optimizer.load_state_dict(state["optimizer_state"])
        _load_scale(self.scaler, state["scaler_state"])
        self.totals = state["totals"].to(self.device)
        self.train_confusion = state["train_confusion"].to(self.device)
        if self.discriminator is not None:
            self.discriminator.load_state_dict(state["model_D_state"])
            self.optimizer_D.load_state_dict(state["optimizer_D_state"])
            _load_scale(self.scaler_D, state["scaler_D_state"])
            self.pixel_trust.histogram = state["confidence_histogram"].to(self.device)
            self.image_trust.load_state_dict(state["image_trust"])
            if "class_shares" in state:  # checkpoints of earlier versions have none
                self.class_shares.load_state_dict(state["class_shares"])
            # Checkpoints of earlier versions do not say; there they always did.
            self.self_trains = state.get("self_trains", True)


def _load_scale(scaler: torch.amp.GradScaler, state: dict[str, Any]) -> None:
    # Only float16 has a scale: a run that goes on in it, from another precision, begins to find it.
    if state:
        scaler.load_state_dict(state)


class NotFinite(WorkError):
    """Losses or weights of the run are no numbers any more."""


def is_finite(step: Step) -> bool:
    """Whether the sums of the losses and all weights are numbers; waits for the device."""
    networks: list[torch.nn.Module] = [step.generator]
    if step.discriminator is not None:
        networks.append(step.discriminator)
    tensors = [step.totals, *(t for n in networks for t in n.state_dict().values())]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    # The largest magnitude of all: a sum of squares would overflow before the numbers do.
    return bool(get_total_norm(floats, norm_type=math.inf).isfinite())
