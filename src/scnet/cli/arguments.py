"""What can be said on the command line: every command with its options and their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scnet.cli import check_data, commands, evaluate, predict, values
from scnet.cli.parser import Parser, Switch

TRAIN_HELP = """Any setting can be given as --group.field VALUE, or in a YAML file (--config):
  scnet train scnet_lite --data my_data --optim.epochs 30 --model.semantic off
`scnet recipes NAME` prints every setting of a recipe with its value."""

TAKE_SETTINGS = ("train", "eval", "check-data")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; `options.run(options)` carries out what was parsed."""
    parser = Parser(
        prog="scnet",
        description="Instance segmentation with Mask R-CNN, Cascade Mask R-CNN, HTC and SCNet.",
        epilog="Start with `scnet demo`, or `scnet check-data my_data` on your own images.",
    )
    from scnet.version import __version__

    parser.add_argument("--version", action="version", version=f"scnet {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_train,
        _add_eval,
        _add_predict,
        _add_check,
        _add_recipes,
        _add_zoo,
        _add_convert,
        _add_export,
        _add_bench,
        _add_experiment,
        _add_demo,
    ):
        add(subparsers)
    return parser


def _command(
    subparsers: Any,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    help: str,
    example: str,
) -> argparse.ArgumentParser:
    parser: Parser = subparsers.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"Example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, results only")
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    parser.set_defaults(run=run, parser=parser)
    parser.takes_settings = name in TAKE_SETTINGS
    return parser


def _add_train(subparsers: Any) -> None:
    example = f"scnet train scnet_lite --data my_data --optim.epochs 20\n\n{TRAIN_HELP}"
    parser = _command(
        subparsers, "train", commands.train, "train a recipe on data in COCO format", example
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="what to train: `scnet recipes` lists all; auto = what the data speak for",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="folder in a usual COCO layout, or an annotation file"
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="run folder (default: runs/RECIPE)")
    text = (
        "go on from a trained detector, all of it that fits, with the classes of the data: a run "
        "folder, .safetensors, checkpoint of another library, published weights or a hub id"
    )
    parser.add_argument("--from", dest="start", metavar="WEIGHTS", help=text)
    text = (
        "with --from: a lower rate, more of the backbone frozen and fewer epochs than the "
        "recipe's, where they are not given"
    )
    parser.add_argument("--finetune", action="store_true", help=text)
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings")
    parser.add_argument("--resume", metavar="DIR", help="continue the training in this run folder")


def _add_eval(subparsers: Any) -> None:
    example = (
        "scnet eval runs/scnet_lite --data my_data --json figures.json\n"
        "         scnet eval runs/scnet_lite --data my_data --report page\n"
        "         scnet eval results.json --data my_data --report page    scores a result file\n"
        "         scnet eval runs/cells --data cells --metric matching    StarDist's figures\n"
        "         scnet eval runs/scnet_lite --data other --data.boxes corners    how it is read"
    )
    help = "measure box and mask AP, or matched instances, on a data set, and show where it errs"
    parser = _command(subparsers, "eval", evaluate.run, help, example)
    _add_weights(parser, or_else="; or COCO results, a .json file")
    evaluate.add_options(parser)
    _add_inference(parser)
    _add_tta(parser)
    _add_changes(parser)


def _add_predict(subparsers: Any) -> None:
    example = (
        "scnet predict runs/scnet_lite photos/*.jpg -o found\n"
        "         scnet predict runs/scnet_lite --data image_info_test.json -o results.json"
    )
    parser = _command(
        subparsers, "predict", predict.run, "find and outline the objects in images", example
    )
    _add_weights(parser)
    predict.add_options(parser)
    parser.add_argument(
        "--score",
        type=values.share,
        help="lowest score that counts, 0..1 (default: 0.5; in one file of results all that the "
        "model keeps, as evaluators want it)",
    )
    _add_inference(parser)
    _add_tta(parser)
    _add_changes(parser)


def _add_check(subparsers: Any) -> None:
    example = (
        "scnet check-data my_data\n"
        "         scnet check-data my_data --data.crowd objects    reads it as a training does"
    )
    parser = _command(
        subparsers,
        "check-data",
        check_data.check_data,
        "read a whole data set and report all that is wrong",
        example,
    )
    parser.add_argument(
        "path", metavar="PATH", help="folder in a usual COCO layout, or an annotation file"
    )
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help="draw samples with their masks to this file (default: check-data.png, numbered where "
        "that is taken)",
    )
    parser.add_argument(
        "--list", metavar="FILE", help="write every single error, warning and note to this file"
    )
    text = "write mended copies of the annotation files to this new folder"
    parser.add_argument("--fix", metavar="DIR", help=text)
    text = "replace an existing file of --picture or --list"
    parser.add_argument("--overwrite", action="store_true", help=text)


def _add_recipes(subparsers: Any) -> None:
    example = (
        "scnet recipes            lists all\n"
        "         scnet recipes scnet      prints the settings of one, as YAML"
    )
    parser = _command(
        subparsers, "recipes", commands.recipes, "list the architectures and ablations", example
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="print every setting of this recipe"
    )


def _add_zoo(subparsers: Any) -> None:
    example = (
        "scnet zoo                  lists all\n"
        "         scnet zoo scnet_r50_20e    puts one on this machine"
    )
    parser = _command(
        subparsers, "zoo", commands.zoo, "list weights that have a name, or download some", example
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="download and convert these weights"
    )


def _add_demo(subparsers: Any) -> None:
    help = "outline nuclei in a microscope's image, then teach that model to find coins"
    parser = _command(subparsers, "demo", commands.demo, help, "scnet demo -o demo")
    text = "folder for everything it makes (default: demo, numbered where that is taken)"
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help=text)
    parser.add_argument(
        "--steps", type=values.positive, default=50, help="training steps (default: 50)"
    )


def _add_bench(subparsers: Any) -> None:
    example = "scnet bench mask_rcnn scnet --peer torchvision --images 'photos/*.jpg'"
    help = "measure how fast models are, from an image file to COCO results"
    parser = _command(subparsers, "bench", commands.bench, help, example)
    parser.add_argument(
        "model",
        metavar="RECIPE|WEIGHTS",
        nargs="*",
        help="what to measure; recipes get random weights (default: mask_rcnn scnet)",
    )
    parser.add_argument("--peer", choices=("torchvision",), help="measure its Mask R-CNN beside")
    parser.add_argument(
        "--images", metavar="IMAGE", nargs="+", help="images, cut to the shape of --size"
    )
    text = "of the networks' input (default: 800x1333; where all are weights, that of the first)"
    parser.add_argument("--size", type=values.size, metavar="HxW", help=text)
    parser.add_argument("--threads", type=values.positive, default=0, help="of the processor")
    parser.add_argument("--rounds", type=values.positive, default=7, help="(default: 7)")
    text = "measure memory, each model in a process of its own (default: yes)"
    parser.add_argument("--memory", action=Switch, default=True, help=text)
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument("--plot", metavar="FILE", help="draw where the time goes")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    _add_inference(parser)


def _add_experiment(subparsers: Any) -> None:
    from scnet.experiments import EXPERIMENTS

    names = "\n".join(f"  {name:<9}{sentence}" for name, sentence in EXPERIMENTS.items())
    example = f"scnet experiment table2 --seeds 3\n\n{names}"
    help = "make a table or figure of the SCNet paper, or StarDist's table"
    parser = _command(subparsers, "experiment", commands.experiment, help, example)
    parser.add_argument("name", metavar="NAME", choices=EXPERIMENTS, help="see below")
    text = "small: narrow models, minutes each on a CPU; paper: the paper's, on 8 GPUs"
    parser.add_argument("--size", choices=("small", "paper"), default="small", help=text)
    text = "trainings of each model, with seeds 0, 1, ... (default: 3)"
    parser.add_argument("--seeds", type=values.positive, default=3, metavar="N", help=text)
    text = "data sets, each with results of its own (default: one in $SCNET_DATA)"
    parser.add_argument("--data", metavar="PATH", nargs="+", default=[], help=text)
    text = "folder of runs and results of all experiments (default: experiments)"
    parser.add_argument("-o", "--output", metavar="DIR", default="experiments", help=text)
    text = "measure images a second of the trained models, too (default: yes)"
    parser.add_argument("--speed", action=Switch, default=True, help=text)
    text = "of the network's input, for speed (default: 400x667, paper 800x1333)"
    parser.add_argument("--image-size", type=values.size, metavar="HxW", help=text)
    text = "of each training, for stardist (default: 1000, paper 8000)"
    parser.add_argument("--steps", type=values.positive, metavar="N", help=text)
    text = "train on all training images and measure on the test images, too, for stardist"
    parser.add_argument("--test", action="store_true", help=text)
    text = "print the trainings and what they need, check the data, train nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)


def _add_convert(subparsers: Any) -> None:
    example = (
        "scnet convert scnet_r50_fpn_20e_coco-a569f645.pth -o scnet_r50.safetensors\n"
        "         scnet convert runs/cells -o cells.safetensors --half    a small file to hand on"
    )
    help = (
        "turn a checkpoint of MMDetection, detectron2 or torchvision, or a trained model, into one "
        "file of scnet"
    )
    from scnet.cli.convert import add_options

    parser = _command(subparsers, "convert", commands.convert, help, example)
    add_options(parser)
    _add_changes(parser)


def _add_export(subparsers: Any) -> None:
    example = "scnet export runs/cells -o cells.onnx"
    help = "write a trained model as ONNX, from the pixels of an image to masks, and compare both"
    from scnet.cli.export import add_options

    parser = _command(subparsers, "export", commands.export, help, example)
    _add_weights(parser)
    add_options(parser)
    text = "boxes of an image that the box stages read; fewer are faster and find less"
    parser.add_argument("--proposals", type=values.positive, metavar="N", help=text)
    _add_changes(parser)


def _add_weights(parser: argparse.ArgumentParser, or_else: str = "") -> None:
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="run folder, checkpoint folder, .safetensors file, .pth file of MMDetection or "
        "torchvision, .pkl or .pth file of detectron2, name of published weights (`scnet zoo` "
        "lists all) or hub id OWNER/NAME" + or_else,
    )


def _add_inference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-detections",
        type=values.positive,
        metavar="N",
        help="most objects per image (default: the model's, usually 100)",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    parser.add_argument(
        "--batch", type=values.positive, default=1, metavar="N", help="images at once (default: 1)"
    )
    text = "bf16 and fp16 are faster on GPUs and change results slightly (default: fp32)"
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help=text)
    parser.add_argument(
        "--proposals", type=values.positive, metavar="N", help="fewer are faster and find less"
    )
    text = "compile for a few image sizes first, a minute or two each; faster on GPUs"
    parser.add_argument("--compile", action="store_true", help=text)


def _add_tta(parser: argparse.ArgumentParser) -> None:
    text = (
        "test-time augmentation, averaged over views of an image: itself and its mirror image, "
        "flips in both directions (4 views), or all turns, too (8); slower, and a little better"
    )
    parser.add_argument("--tta", choices=("mirror", "flips", "turns"), help=text)


def _add_changes(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of a model otherwise than it was trained."""
    text = "resize images to this shorter side, and at most this longer one (default: the model's)"
    parser.add_argument("--image-size", type=values.size, metavar="SHORTxLONG", help=text)
    text = "enlarge all images by this factor; below 1 makes them smaller"
    parser.add_argument("--scale-factor", type=values.factor, metavar="F", help=text)
    text = (
        "leave out an object of whose mask better ones leave less than this share free, 0..1; for "
        "things that do not overlap, such as cells (default: the model's, usually 0)"
    )
    parser.add_argument("--least-visible", type=values.share, metavar="SHARE", help=text)
