"""--encoder-weights FILE: weights of an encoder from elsewhere, by the names of their tensors."""

from collections import Counter
from pathlib import Path

from torch import Tensor, nn

from salakseg.errors import InputError
from salakseg.model.torch_files import read_weights, unfit


def load_encoder_weights(network: nn.Module, name: str, path: Path) -> None:
    """Give a network, or its encoder where it has one, the weights of a file.

    Args:
        name: of the network, for what is said.

    Raises:
        InputError: no such file, or less than nine tenths of the tensors found by name and shape.
    """
    if not path.is_file():
        raise InputError(
            f"--encoder-weights {path}: no such file; give imagenet, none or a file of weights"
        )
    given = read_weights(path)
    # A file may hold the encoder alone, with or without timm's wrapper, or a network that has it,
    # inside whatever program trained it. timm writes `stages.0`, and has `stages_0` in an encoder.
    tensors = network.state_dict()
    names = {_plain(key): key for key in tensors}
    counted = {key for key in tensors if not key.endswith("num_batches_tracked")}
    counted = {key for key in counted if key.startswith("encoder.")} or counted
    best_fit: dict[str, Tensor] = {}
    best_share = 0.0
    for before in _prefixes(given):
        inside = {key[len(before) :]: one for key, one in given.items() if key.startswith(before)}
        for prefix in ("", "encoder.", "encoder.model."):
            found = {names.get(_plain(prefix + key), ""): one for key, one in inside.items()}
            found.pop("", None)
            fit = {key: one for key, one in found.items() if tensors[key].shape == one.shape}
            share = len(counted & fit.keys()) / max(1, len(counted))
            if share > best_share:
                best_fit, best_share = fit, share
    if best_share < 0.9:
        share_found = f"{best_share:.0%} of the encoder's tensors found by name and shape"
        raise unfit(path, name, share_found)
    network.load_state_dict(best_fit, strict=False)


def _plain(key: str) -> str:
    return key.replace("_", ".")


def _prefixes(state: dict[str, Tensor]) -> list[str]:
    """What comes before a dot in a tenth of the names and more: "", then longer ones."""
    counts: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        counts.update(".".join(parts[:n]) + "." for n in range(1, len(parts)))
    return ["", *(before for before, count in counts.items() if count >= len(state) / 10)]
