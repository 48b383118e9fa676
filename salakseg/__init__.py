"""Semi-supervised land-cover maps from drone imagery with S4GAN.

Each command of `salakseg` is one function here, with the command's options as its arguments:
`patchify`, `index`, `shard`, `train`, `evaluate` (the command `eval`), `predict`, `assess_plan`
(`assess plan`), `assess_score` (`assess score`), `suggest`, `doctor`, `checkpoints` and `demo`.
`webdataset` gives the shards to a loop of one's own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salakseg.assessment.plan import assess_plan
    from salakseg.assessment.score import assess_score
    from salakseg.data.index import index
    from salakseg.data.patchify import patchify
    from salakseg.data.shards_pack import shard
    from salakseg.data.webdataset_samples import webdataset
    from salakseg.demonstration.demo import demo
    from salakseg.evaluation.evaluate import evaluate
    from salakseg.mapping.predict import predict
    from salakseg.model.onnx_export import export
    from salakseg.suggestion.suggest import suggest
    from salakseg.training.doctor import doctor
    from salakseg.training.loop import train
    from salakseg.training.saved_files import checkpoints

    __version__: str

__all__ = [
    "assess_plan",
    "assess_score",
    "checkpoints",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "index",
    "patchify",
    "predict",
    "shard",
    "suggest",
    "train",
    "webdataset",
]

# Loaded on first use: `import salakseg` and `salakseg --help` must not import torch.
_HOMES = {
    "patchify": "salakseg.data.patchify",
    "index": "salakseg.data.index",
    "shard": "salakseg.data.shards_pack",
    "train": "salakseg.training.loop",
    "evaluate": "salakseg.evaluation.evaluate",
    "predict": "salakseg.mapping.predict",
    "export": "salakseg.model.onnx_export",
    "assess_plan": "salakseg.assessment.plan",
    "assess_score": "salakseg.assessment.score",
    "suggest": "salakseg.suggestion.suggest",
    "doctor": "salakseg.training.doctor",
    "checkpoints": "salakseg.training.saved_files",
    "demo": "salakseg.demonstration.demo",
    "webdataset": "salakseg.data.webdataset_samples",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        # Only now: importing importlib.metadata takes as long as all of the rest of --help.
        from salakseg.version import VERSION

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
