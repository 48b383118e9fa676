"""The command line: parse, call one function, say what went wrong in one line.

Each command is the function of the same name in the package; its work and its words are there.
Nothing heavy is imported before a command runs. Long, since an option is a few lines of words and
nothing else; that names and defaults are those of the functions is held by a test.
"""

import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import salakseg
from salakseg.errors import ElsewhereError, InputError, WorkError
from salakseg.signals import Stop, ignore_stops, on_stop, stopping
from salakseg.training.options import MACHINE, Options, abouts

app = typer.Typer(
    help="Land-cover maps from drone photos and a few hand-drawn masks, with S4GAN.\n\n"
    "The way through, in one directory: index DATA, shard, train, eval best_model.pth, "
    "predict image.tif.",
    epilog="salakseg COMMAND --help has the options of a command. --quiet and --verbose may stand "
    "after it too.",
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich takes longer than all the rest of --help
    pretty_exceptions_enable=False,
)


class Command(TyperCommand):
    """A command whose help has its options in groups, by their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, in the order of the options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                heading = getattr(parameter, "rich_help_panel", None) or kind
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class SplitBy(StrEnum):
    """What stays on one side of the split."""

    base = "base"
    block = "block"
    area = "area"
    patch = "patch"
    folder = "folder"


class WandbMode(StrEnum):
    """Where Weights & Biases records."""

    online = "online"
    offline = "offline"


class Unit(StrEnum):
    """What is suggested."""

    base = "base"
    patch = "patch"


class Strategy(StrEnum):
    """How what to label is chosen."""

    coverage = "coverage"
    random = "random"
    confidence = "confidence"
    margin = "margin"
    entropy = "entropy"
    k_centre = "k-centre"


class ExportAs(StrEnum):
    """As what a guess is corrected."""

    masks = "masks"
    geopackage = "geopackage"
    coco = "coco"
    labelme = "labelme"


class PolygonFormat(StrEnum):
    """Of a map's polygons."""

    gpkg = "gpkg"
    fgb = "fgb"
    parquet = "parquet"


# Groups of options in the help.
FILES, WANDB = "The run's files", "Weights & Biases"
SPLIT, SEEN, MORE = "Split", "What the network sees", "More files"
MASKS, DRAWN = "Grey masks", "Drawn labels"
SIZE = "Sample"
UNTRAINED, BARE = "Without a model", "State dicts of other programs"

Workers = Annotated[
    int | None,
    typer.Option("--num-workers", help="Processes. [default: one a core]", rich_help_panel=MACHINE),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=MACHINE)]
Amp = Annotated[
    bool | None,
    typer.Option(
        "--amp/--no-amp",
        help="Mixed precision. [default: where the device is fast]",
        rich_help_panel=MACHINE,
    ),
]
Nodata = Annotated[
    float | None,
    typer.Option(help="Value that means nothing where all bands have it.", rich_help_panel=SEEN),
]
Enlarge = Annotated[
    float,
    typer.Option(
        help="How many times as large the network sees it, 1 to 4; 1.5 takes 2.25 × the time.",
        rich_help_panel=SEEN,
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        help="Which bands, as in 1,2,3 or 1,2,3,5. [default: red, green, blue by the file, or the "
        "first; of a model of more, by their names]",
        rich_help_panel=SEEN,
    ),
]
ZoneField = Annotated[
    str | None,
    typer.Option(
        help="Its column with their names. [default: name, or one that is filled and unique]",
        rich_help_panel=MORE,
    ),
]
ZonesLayer = Annotated[
    str | None,
    typer.Option(
        help="Which layer of the file. [default: the one with polygons; of a KML all]",
        rich_help_panel=MORE,
    ),
]
ShardsDir = Annotated[
    str,
    typer.Option(
        metavar="FOLDER_OR_URL",
        help="Shards made by salakseg shard; s3://, gs://, az://, hf://, https:// too.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Where shards of a URL are kept. [default: in the user's caches]",
        rich_help_panel=MACHINE,
    ),
]
CacheSize = Annotated[
    float | None,
    typer.Option(
        help="Gigabytes of it. [default: 50, at most half of the disk's room]",
        rich_help_panel=MACHINE,
    ),
]
BareGenerator = Annotated[
    str | None,
    typer.Option("--generator", help="Network of a bare state dict.", rich_help_panel=BARE),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.command(cls=Command, epilog="Example: salakseg patchify PHOTOS --out DATA")
def patchify(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder with images/ and optional masks/.")
    ],
    out: Annotated[Path, typer.Option(help="Where the patch folders go.")],
    size: Annotated[int, typer.Option(help="Side of a patch in pixels.")] = 256,
    bands: Bands = None,
    nodata: Nodata = None,
    white_level: Annotated[
        int | None,
        typer.Option(
            help="16-bit value of full brightness. [default: what all photos keep to]",
            rich_help_panel=SEEN,
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(
            help="Metres on the ground a pixel, where there is no CRS. [default: by a drone's "
            "metadata]",
            rich_help_panel=SEEN,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_FOLDER",
            help="Drawn labels in place of masks: GeoPackage, GeoJSON, Shapefile, FlatGeobuf, KML; "
            "Labelme, COCO, CVAT, Label Studio, Supervisely.",
            rich_help_panel=DRAWN,
        ),
    ] = None,
    label_field: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Names the class of polygons on the ground. [default: the only column of text, or "
            "class, label, name]",
            rich_help_panel=DRAWN,
        ),
    ] = None,
    label_layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER", help="[default: the one with polygons]", rich_help_panel=DRAWN
        ),
    ] = None,
    outside: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="What lies outside of all that is drawn. [default: no class]",
            rich_help_panel=DRAWN,
        ),
    ] = None,
    aoi: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Polygons on the ground; outside of them nothing has a class.",
            rich_help_panel=DRAWN,
        ),
    ] = None,
    num_workers: Workers = None,
) -> None:
    """Cut full photos and their masks, or what was drawn on them, into patches.

    Reads images/ and masks/ (the same names) in DATA or in folders below it. Writes the same
    folders under --out, layout.csv beside each images/. Stopped, it goes on where it was.
    """
    salakseg.patchify(
        data,
        out=out,
        size=size,
        bands=bands,
        nodata=nodata,
        white_level=white_level,
        gsd=gsd,
        labels=labels,
        label_field=label_field,
        label_layer=label_layer,
        outside=outside,
        aoi=aoi,
        num_workers=num_workers,
    )


@app.command(cls=Command, epilog="Example: salakseg index DATA --val-split 0.25")
def index(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with the patch folders.")],
    out: Annotated[Path, typer.Option(help="Where the index goes.")] = Path("index"),
    class_mapping: Annotated[
        Path | None,
        typer.Option(
            help="CSV class_name,class_color[,ignore][,mask_value]. [default: "
            "DATA/class_mapping.csv, ./class_mapping.csv, or the Salak classes]"
        ),
    ] = None,
    mask_values: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER:CLASS,…",
            help="What the numbers of grey masks stand for, as in 0:Land,255:Water; - is no class. "
            "[default: by all masks together]",
            rich_help_panel=MASKS,
        ),
    ] = None,
    mask_offset: Annotated[
        int | None,
        typer.Option(
            help="The number of the first class in grey masks, as in 1; less is no class.",
            rich_help_panel=MASKS,
        ),
    ] = None,
    val_split: Annotated[
        float, typer.Option(help="Share of the labels for validation.", rich_help_panel=SPLIT)
    ] = 0.2,
    split_by: Annotated[
        SplitBy | None,
        typer.Option(
            help="What stays on one side; area: blocks of an image's ground. [default: base, or "
            "area where fewer than three have masks]",
            rich_help_panel=SPLIT,
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            help="Side of a block of --split-by area, in patches. [default: as far as labels are "
            "alike]",
            rich_help_panel=SPLIT,
        ),
    ] = None,
    split_file: Annotated[
        Path | None,
        typer.Option(
            help="CSV base_image,split[,folder]: the split, by hand.", rich_help_panel=SPLIT
        ),
    ] = None,
    labeled_list: Annotated[
        Path | None,
        typer.Option(
            help="Names of the patches or photos whose masks may be used.", rich_help_panel=SPLIT
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="More than three, of GeoTIFF patches of other programs, as in 1,2,3,5. [default: "
            "red, green, blue, or patchify's]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.", rich_help_panel=SPLIT)] = 0,
    num_workers: Workers = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Open files again that have not changed.")
    ] = False,
) -> None:
    """Find, pair and check every patch; split without leaks.

    Reads images/ and masks/ in DATA or in folders below it. Writes index/: patches.csv,
    base_images.csv, problems.csv, preview.png. DATA is never changed.
    """
    salakseg.index(
        data,
        out=out,
        class_mapping=class_mapping,
        mask_values=mask_values,
        mask_offset=mask_offset,
        val_split=val_split,
        split_by=None if split_by is None else split_by.value,
        block_size=block_size,
        split_file=split_file,
        labeled_list=labeled_list,
        bands=bands,
        seed=seed,
        num_workers=num_workers,
        cache=not no_cache,
    )


@app.command(cls=Command, epilog="Example: salakseg shard --shard-size 512")
def shard(
    index_dir: Annotated[Path, typer.Option(help="Index made by salakseg index.")] = Path("index"),
    out: Annotated[Path, typer.Option(help="Where the shards go.")] = Path("shards"),
    shard_size: Annotated[int, typer.Option(help="Megabytes a shard, about.")] = 256,
    overwrite: Overwrite = False,
    num_workers: Workers = None,
) -> None:
    """Pack the patches into WebDataset tars for sequential reads.

    Reads index/ and the patches that it lists. Writes shards/: tars, samples.csv,
    manifest.json. Stopped, it goes on where it was; run again, it checks what is there.
    """
    salakseg.shard(
        index_dir=index_dir,
        out=out,
        shard_size=shard_size,
        overwrite=overwrite,
        num_workers=num_workers,
    )


# Options that other programs' guides give to training; here they belong to `index`.
MOVED = {
    "data_root": "salakseg index DATA takes the folder; train reads shards/",
    "class_mapping": "salakseg index --class-mapping takes it; the shards hold the classes",
    "num_classes": "the class mapping decides; salakseg index --class-mapping takes it",
    "val_split": "salakseg index --val-split takes it",
    "labeled_list": "salakseg index --labeled-list takes it",
}
Moved = Annotated[str | None, typer.Option(hidden=True)]


def _with_options_of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a parameter for each field of `Options`, None where it is not given."""
    parameters = []
    for name, about in abouts().items():
        default = getattr(Options, name)
        kind = about.typed or (bool if default is None else type(default))
        words = about.help
        if about.metavar and about.choices:
            words += f" {', '.join(about.choices)}."
        if default != () and "[default" not in words:
            words = f"{words} [default: {default}]".strip()
        option = typer.Option(
            *(("--amp/--no-amp",) if kind is bool else ()),
            help=words,
            rich_help_panel=about.group or None,
            metavar=about.metavar or (f"<{'|'.join(about.choices)}>" if about.choices else None),
        )
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=None,
                annotation=Annotated[kind | None, option],
            )
        )
    own = inspect.signature(command).parameters.values()
    parameters += [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


@app.command(cls=Command, epilog="Example: salakseg train --batch-size 16")
@_with_options_of_a_run
def train(
    shards_dir: ShardsDir = "shards",
    checkpoint_dir: Annotated[
        Path, typer.Option(help="Where models go.", rich_help_panel=FILES)
    ] = Path("checkpoints"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in the checkpoint folder.", rich_help_panel=FILES
        ),
    ] = False,
    restore_from: Annotated[
        Path | None,
        typer.Option(
            help="Go on from this checkpoint, or from a model's weights.", rich_help_panel=FILES
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Start over, losing the run that is there.", rich_help_panel=FILES
        ),
    ] = False,
    keep_checkpoints: Annotated[
        int | None,
        typer.Option(
            help="How many checkpoint_N.pth to keep. [default: all]", rich_help_panel=FILES
        ),
    ] = None,
    num_workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that read ahead. [default: 1 on a CPU, up to 4 else]",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    cache_dir: CacheDir = None,
    cache_size: CacheSize = None,
    device: Device = "auto",
    deterministic: Annotated[
        bool,
        typer.Option(
            help="The same bits on every run, at some cost on a GPU.", rich_help_panel=MACHINE
        ),
    ] = True,
    wandb_project: Annotated[
        str | None, typer.Option(help="Project on W&B.", rich_help_panel=WANDB)
    ] = None,
    wandb_mode: Annotated[
        WandbMode | None, typer.Option(help="[default: online if logged in]", rich_help_panel=WANDB)
    ] = None,
    no_wandb: Annotated[
        bool, typer.Option("--no-wandb", help="Nothing to W&B.", rich_help_panel=WANDB)
    ] = False,
    data_root: Moved = None,
    class_mapping: Moved = None,
    num_classes: Moved = None,
    val_split: Moved = None,
    labeled_list: Moved = None,
    **given: Any,
) -> None:
    """Train on the shards: S4GAN, or the labelled patches alone.

    Reads shards/. Writes checkpoints/: best_model.pth, latest_checkpoint.pth, log.csv,
    curves.png and more. Ctrl-C (or SIGTERM) saves and stops; --resume goes on.
    """
    moved = {
        "data_root": data_root,
        "class_mapping": class_mapping,
        "num_classes": num_classes,
        "val_split": val_split,
        "labeled_list": labeled_list,
    }
    for name, value in moved.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')} is no option of train: {MOVED[name]}")
    salakseg.train(
        shards_dir=shards_dir,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        restore_from=restore_from,
        overwrite=overwrite,
        keep_checkpoints=keep_checkpoints,
        num_workers=num_workers,
        cache_dir=cache_dir,
        cache_size=cache_size,
        device=device,
        deterministic=deterministic,
        wandb_mode="disabled" if no_wandb else wandb_mode,
        wandb_project=wandb_project,
        **{name: value for name, value in given.items() if value not in (None, [])},
    )


@app.command(
    "eval",
    cls=Command,
    epilog="Example: salakseg eval best_model.pth --against checkpoints-2/best_model.pth",
)
def evaluate(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL",
            help="Model file, or its name in checkpoints/; several, of other seeds, with "
            "--against. [default: best_model.pth]",
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Model to compare with on the same patches; may be given again."),
    ] = None,
    leak_check: Annotated[
        bool,
        typer.Option(
            "--leak-check", help="Score patches whose base image is in training on their own."
        ),
    ] = False,
    shards_dir: ShardsDir = "shards",
    split: Annotated[str, typer.Option(help="Which patches of the shards: val, test.")] = "val",
    data: Annotated[
        Path | None, typer.Option(help="Score on full images here (images/ and masks/) instead.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("eval"),
    batch_size: Annotated[
        int, typer.Option(help="Patches at a time.", rich_help_panel=MACHINE)
    ] = 16,
    num_workers: Annotated[
        int, typer.Option(help="Threads that read ahead.", rich_help_panel=MACHINE)
    ] = 0,
    cache_dir: CacheDir = None,
    cache_size: CacheSize = None,
    device: Device = "auto",
    enlarge: Enlarge = 1.0,
    amp: Amp = None,
    generator: BareGenerator = None,
    class_mapping: Annotated[
        Path | None,
        typer.Option(
            help="Classes of a bare state dict or of the masks in --data.", rich_help_panel=BARE
        ),
    ] = None,
) -> None:
    """Score a model, class by class, on held-out patches; compare it with others.

    Reads a model and shards/, or the full images of --data. Writes eval/: report.html,
    metrics.json, tables and pictures.
    """
    salakseg.evaluate(
        models or [Path("best_model.pth")],
        against=against or [],
        leak_check=leak_check,
        shards_dir=shards_dir,
        split=split,
        data=data,
        out=out,
        batch_size=batch_size,
        num_workers=num_workers,
        cache_dir=cache_dir,
        cache_size=cache_size,
        device=device,
        enlarge=enlarge,
        amp=amp,
        generator=generator,
        class_mapping=class_mapping,
    )


@app.command(
    cls=Command, epilog="Example: salakseg predict field.tif --polygons --zones blocks.gpkg"
)
def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE", help="Images, folders or patterns (*.tif); s3://, https://, … too."
        ),
    ],
    model: Annotated[
        Path, typer.Option(help="Model file, ONNX file of export, or its name in checkpoints/.")
    ] = Path("best_model.pth"),
    out: Annotated[Path, typer.Option(help="Where the maps go.")] = Path("predictions"),
    overlap: Annotated[
        float, typer.Option(help="Share of a tile that the next covers.", rich_help_panel=SEEN)
    ] = 0.25,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Tiles at a time. [default: by device]", rich_help_panel=MACHINE),
    ] = None,
    nodata: Nodata = None,
    bands: Bands = None,
    white_level: Annotated[
        int | None,
        typer.Option(
            help="16-bit value of full brightness. [default: the model's, or by the values]",
            rich_help_panel=SEEN,
        ),
    ] = None,
    resolution: Annotated[
        str,
        typer.Option(
            help="Pixel size for the network: match the model's, own, or metres.",
            rich_help_panel=SEEN,
        ),
    ] = "match",
    gsd: Annotated[
        float | None,
        typer.Option(
            help="Metres on the ground a pixel, where there is no CRS.", rich_help_panel=SEEN
        ),
    ] = None,
    enlarge: Enlarge = 1.0,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Average eight turns and mirror images; 8 × the time.",
            rich_help_panel=SEEN,
        ),
    ] = False,
    zones: Annotated[
        Path | None,
        typer.Option(help="Layer of polygons: areas for each of them too.", rich_help_panel=MORE),
    ] = None,
    zone_field: ZoneField = None,
    zones_layer: ZonesLayer = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities", help="Those of all classes too, a band each.", rich_help_panel=MORE
        ),
    ] = False,
    polygons: Annotated[
        bool,
        typer.Option("--polygons", help="The classes as polygons too.", rich_help_panel=MORE),
    ] = False,
    polygon_format: Annotated[
        PolygonFormat | None,
        typer.Option(
            help="GeoPackage, FlatGeobuf or GeoParquet. [default: gpkg]", rich_help_panel=MORE
        ),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option(
            help="Smallest polygon in m², or in pixels without a CRS. [default: 100 pixels]",
            rich_help_panel=MORE,
        ),
    ] = None,
    simplify: Annotated[
        float | None,
        typer.Option(
            help="By how much polygons may be off their outlines, in metres, or in pixels without "
            "a CRS. [default: not at all]",
            rich_help_panel=MORE,
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            help="Mask, or folder of masks: scores and a map of errors.", rich_help_panel=MORE
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Leave out the damaged parts of a raster.",
            rich_help_panel=SEEN,
        ),
    ] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    amp: Amp = None,
    generator: BareGenerator = None,
    class_mapping: Annotated[
        Path | None, typer.Option(help="Classes of a bare state dict.", rich_help_panel=BARE)
    ] = None,
) -> None:
    """Tile full images into land-cover maps.

    Reads a model and PNG, JPEG, GeoTIFF or VRT of any size, or folders of patches. Writes
    predictions/: of each image its class map, confidence, areas and preview; and index.html,
    a page of all maps that opens in a browser, offline.
    """
    salakseg.predict(
        images,
        model=model,
        out=out,
        overlap=overlap,
        batch_size=batch_size,
        nodata=nodata,
        bands=bands,
        white_level=white_level,
        resolution=resolution,
        gsd=gsd,
        enlarge=enlarge,
        tta=tta,
        zones=zones,
        zone_field=zone_field,
        zones_layer=zones_layer,
        probabilities=probabilities,
        polygons=polygons,
        polygon_format=None if polygon_format is None else polygon_format.value,
        min_area=min_area,
        simplify=simplify,
        compare=compare,
        skip_unreadable=skip_unreadable,
        overwrite=overwrite,
        device=device,
        amp=amp,
        generator=generator,
        class_mapping=class_mapping,
    )


@app.command(cls=Command, epilog="Example: salakseg suggest --count 8 --export label")
def suggest(
    count: Annotated[int, typer.Option(help="How many.")] = 10,
    unit: Annotated[Unit, typer.Option(help="Whole photos, or patches.")] = Unit.base,
    export: Annotated[
        Path | None,
        typer.Option(help="A new folder: the photos, the model's guess to correct, a how-to."),
    ] = None,
    export_as: Annotated[
        ExportAs,
        typer.Option(
            help="As what the guess is corrected: masks, or polygons for QGIS, for CVAT and "
            "Roboflow (coco), for Labelme."
        ),
    ] = ExportAs.masks,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model file, or its name in checkpoints/. [default: best_model.pth if there]"
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            help="Without a model: whose encoder. [default: deeplabv3plus-resnet50]",
            rich_help_panel=UNTRAINED,
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            help="Without a model: imagenet, none, or a file. [default: imagenet]",
            rich_help_panel=UNTRAINED,
        ),
    ] = None,
    strategy: Annotated[
        Strategy, typer.Option(help="The others are there to compare with.")
    ] = Strategy.coverage,
    index_dir: Annotated[Path, typer.Option(help="Index made by salakseg index.")] = Path("index"),
    shards_dir: ShardsDir = "shards",
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("suggestions"),
    batch_size: Annotated[
        int | None,
        typer.Option(help="Patches at a time. [default: by device]", rich_help_panel=MACHINE),
    ] = None,
    num_workers: Annotated[
        int, typer.Option(help="Threads that read ahead.", rich_help_panel=MACHINE)
    ] = 0,
    cache_dir: CacheDir = None,
    cache_size: CacheSize = None,
    device: Device = "auto",
    amp: Amp = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
) -> None:
    """Say which photos to label next, and lay them out.

    Reads index/, shards/ and, where there is one, a model. Writes suggestions/: the ranked
    list and a contact sheet; with --export the photos too, ready to be labelled.
    """
    salakseg.suggest(
        index_dir=index_dir,
        shards_dir=shards_dir,
        model=model,
        out=out,
        count=count,
        unit=unit.value,
        strategy=strategy.value,
        export=export,
        export_as=export_as.value,
        generator=generator,
        encoder_weights=encoder_weights,
        batch_size=batch_size,
        num_workers=num_workers,
        cache_dir=cache_dir,
        cache_size=cache_size,
        device=device,
        amp=amp,
        seed=seed,
    )


@app.command(cls=Command, epilog="Example: salakseg export best_model.pth")
def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Model file, or its name in checkpoints/.")
    ] = Path("best_model.pth"),
    out: Annotated[
        Path | None, typer.Option(help="The file. [default: MODEL's name, .onnx, beside it]")
    ] = None,
) -> None:
    """Write a model as ONNX, for QGIS (Deepness) and programs without torch.

    Reads a model. Writes one file, tried with ONNX Runtime, that knows its classes, and beside it
    what a STAC catalogue says of it.
    """
    salakseg.export(model, out=out)


assess = typer.Typer(
    help="Check a random sample of a map: accuracies, and hectares with an interval that is true.",
    epilog="Example: salakseg assess plan predictions/field_classes.tif",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(assess, name="assess")


@assess.command(
    "plan",
    cls=Command,
    epilog="Example: salakseg assess plan predictions/field_classes.tif --points 300",
)
def assess_plan(
    maps: Annotated[
        list[Path], typer.Argument(metavar="MAP", help="Class maps, folders or patterns.")
    ],
    points: Annotated[
        int | None,
        typer.Option(help="How many. [default: by --standard-error]", rich_help_panel=SIZE),
    ] = None,
    standard_error: Annotated[
        float | None,
        typer.Option(
            help="Wanted of the overall accuracy, as in 0.01. [default: 0.02]",
            rich_help_panel=SIZE,
        ),
    ] = None,
    least: Annotated[
        int, typer.Option(help="Points in each class, however rare.", rich_help_panel=SIZE)
    ] = 30,
    seed: Annotated[int, typer.Option(help="Of the draw.", rich_help_panel=SIZE)] = 0,
    zones: Annotated[
        Path | None,
        typer.Option(help="Layer of polygons: figures of each too.", rich_help_panel=MORE),
    ] = None,
    zone_field: ZoneField = None,
    zones_layer: ZonesLayer = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="Image of a map, or their folder, or a URL; may be given again. [default: as "
            "the map says]",
            rich_help_panel=MORE,
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(help="Metres a pixel, where there is no CRS.", rich_help_panel=MORE),
    ] = None,
    out: Annotated[Path, typer.Option(help="A folder for all of it.")] = Path("assessment"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an assessment that has answers.")
    ] = False,
) -> None:
    """Draw the points, with a page and a layer to say what is there.

    Reads class maps of salakseg predict and their images. Writes assessment/: index.html,
    points.gpkg for QGIS, chips/, HOW-TO.md, plan.json.
    """
    salakseg.assess_plan(
        [Path(one) for one in maps],
        points=points,
        standard_error=standard_error,
        least=least,
        zones=zones,
        zone_field=zone_field,
        zones_layer=zones_layer,
        image=image or [],
        gsd=gsd,
        seed=seed,
        out=out,
        overwrite=overwrite,
    )


@assess.command("score", cls=Command, epilog="Example: salakseg assess score assessment")
def assess_score(
    assessment: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="What assess plan made, or reference.csv or points.gpkg in it."
        ),
    ] = Path("assessment"),
    maps: Annotated[
        list[Path] | None,
        typer.Option(
            "--map",
            help="Judge this map by the same points, in place of the one that was planned.",
        ),
    ] = None,
) -> None:
    """Estimate accuracies and hectares from the answers.

    Reads the folder. Writes into it: report.html, areas.csv, assessment.json.
    """
    salakseg.assess_score(assessment, maps=maps or [])


RunFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a run.")]


@app.command(cls=Command, epilog="Example: salakseg checkpoints --clean")
def checkpoints(
    checkpoint_dir: RunFolder = Path("checkpoints"),
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove all checkpoint_N.pth but the newest, on a yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """List what a run has saved, whole or damaged; tidy it.

    Reads every .pth file of the folder, and writes nothing; --clean removes.
    """
    salakseg.checkpoints(checkpoint_dir, clean=clean, yes=yes)


@app.command(cls=Command, epilog="Example: salakseg doctor")
def doctor(checkpoint_dir: RunFolder = Path("checkpoints")) -> None:
    """Say how a run is going or went, and what to do.

    Reads log.csv and timing.csv of the folder; writes nothing.
    """
    salakseg.doctor(checkpoint_dir)


@app.command(cls=Command, epilog="Example: salakseg demo --num-steps 600")
def demo(
    out: Annotated[Path, typer.Option(help="A new folder for all of it.")] = Path("salakseg-demo"),
    only_data: Annotated[
        bool, typer.Option("--only-data", help="Draw the photographs and masks, and stop.")
    ] = False,
    num_steps: Annotated[
        int | None, typer.Option(help="Iterations of training; more is better. [default: 300]")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the report in the browser at the end.")
    ] = False,
) -> None:
    """Try everything on a drawn farm: no data, no network, minutes on a CPU.

    Reads nothing. Writes the folder: photographs, masks, and what each command makes of them.
    """
    salakseg.demo(out, only_data=only_data, open_=open_, num_steps=num_steps)


# Of click, which typer needs, or has inside.
UsageError: Any = typer.BadParameter.__base__
SECONDS_TO_SAY_IT = 30.0
# What several processes share out.
SHARED = ("train", "eval", "predict", "suggest")


@app.callback(invoke_without_command=True)
def before_a_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With an error, where in the program it came up.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """What holds for every command; `main` sees to --verbose."""
    if context.invoked_subcommand not in SHARED and not _is_first():
        raise typer.Exit  # of the processes of a torchrun the first one does it
    if version:
        typer.echo(salakseg.__version__)
        raise typer.Exit
    if quiet:
        from salakseg.console import console

        console.quiet = True


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; exit code 2 for bad input, 1 for failed work, 130 for what was stopped
    by Ctrl-C or by another of the signals in `salakseg.signals`."""
    words = sys.argv[1:] if arguments is None else arguments
    verbose = "--verbose" in words
    # These may stand anywhere; typer knows them before the command only.
    words = sorted(words, key=lambda word: word not in ("--quiet", "--verbose"))
    for stream in (sys.stdout, sys.stderr):
        # Windows pipes default to a code page that has no ✓ and no class names beyond it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    stopping.clear()
    try:
        with on_stop(_Stopping()):
            sys.exit(app(words, standalone_mode=False))
    except UsageError as error:
        _leave_it_to_the_first()
        error.show()
        sys.exit(error.exit_code)
    except typer.Abort:
        _say("Aborted!")
        sys.exit(1)
    except InputError as error:
        if not error.of_one:
            _leave_it_to_the_first()
        sys.exit(_fail(error, 2, verbose))
    except WorkError as error:
        sys.exit(_fail(error, 1, verbose))
    except ElsewhereError as error:
        sys.exit(error.code)
    except OSError as error:
        # A full disk or a folder that may not be written to, met where nothing else expects it.
        sys.exit(_fail(error, 1, verbose))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if arguments is None:
            ignore_stops()  # Python takes a second to end, and what it says is decided
            _leave(sys.exception())


def _leave(error: BaseException | None) -> None:
    """End one of the processes of a torchrun at once: in the destructors of what connected them it
    aborts now and then, and work that is done would count as failed."""
    if isinstance(error, SystemExit) and _was_launched():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(error.code if isinstance(error.code, int) else 0)


class _Stopping:
    """The first signal ends the command as Ctrl-C does: what is written stays, what is half written
    goes, what workers have in hand is finished. The second one waits for nothing."""

    asked = False

    def __call__(self, _: int) -> None:
        if self.asked:
            os._exit(130)
        self.asked = True
        stopping.set()
        if _is_first():
            _say("Stopping (once more: at once) …")
        raise Stop


def _is_first() -> bool:
    """Whether this is the process of a torchrun that speaks, or no other is there."""
    return not _was_launched() or os.environ.get("RANK", "0") == "0"


def _was_launched() -> bool:
    """As `distributed.was_launched`, without torch. Job arrays may have a RANK of their own."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _leave_it_to_the_first() -> None:
    """Do not say what each process of a torchrun finds wrong with the same command line; nor end
    before the first one has said it, since torchrun ends all when one does."""
    if not _is_first():
        with suppress(KeyboardInterrupt):
            time.sleep(SECONDS_TO_SAY_IT)
        os._exit(2)


def _fail(error: Exception, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    _say(f"Error: {error}")
    return code


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        typer.echo(text, err=True)
