"""Models on the Hugging Face hub, and folders of the same form.

huggingface_hub's own ModelHubMixin is not used: it deletes a config.json that lies in the folder
before it writes, and what it hands to its subclasses differs between versions.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

from scnet.config import Config, DataConfig
from scnet.model.detector import Detector
from scnet.runtime.files import whole_file, whole_folder
from scnet.weights import checkpoint
from scnet.weights.checkpoint import CONFIG, WEIGHTS, CheckpointError
from scnet.weights.public import without_paths

CARD = "README.md"


def is_id(text: str) -> bool:
    """Whether a text has the form of a hub id, OWNER/NAME."""
    word = r"[A-Za-z0-9][\w.-]*"
    is_file = text.endswith((".safetensors", ".pth", ".pt", ".onnx"))
    return not is_file and re.fullmatch(f"{word}/{word}", text, re.ASCII) is not None


def download(repo_id: str, **options: Any) -> Path:
    """Return the weight file of a model on the hub; its config lies beside it.

    Args:
        options: of `huggingface_hub.hf_hub_download`, such as `revision` and `token`.

    Raises:
        CheckpointError: not a hub id, or the model cannot be had.
    """
    if not is_id(repo_id):
        raise CheckpointError(
            f"{repo_id}: no such file or folder, nor a hub id, which is OWNER/NAME"
        )
    from huggingface_hub import hf_hub_download

    try:
        for name in (CONFIG, WEIGHTS):  # the hub counts downloads by the first
            file = hf_hub_download(repo_id, name, **options)
    except Exception as error:  # of huggingface_hub, of its network library, or of the disk
        raise CheckpointError(
            f"{repo_id}: no such file or folder, and it cannot be had from the Hugging Face hub: "
            f"{type(error).__name__}: {str(error).strip()}"
        ) from error
    return Path(file)


def save(folder: Path, detector: Detector, *, license: str | None, overwrite: bool) -> None:
    """Write weights, config and model card into a folder; see `Model.save_pretrained`."""
    there = [folder / name for name in (WEIGHTS, CONFIG) if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"{there[0]} exists; give another folder, or overwrite=True")
    public = without_paths(detector)
    card = model_card(detector.config, folder.resolve().name, license)
    place = contextlib.nullcontext(folder) if folder.exists() else whole_folder(folder)
    with checkpoint.writing(folder), place as inside:
        _write(inside, public, card)


def _write(folder: Path, detector: Detector, card: str) -> None:
    """Write the files into a folder, where others may lie, and a card only where there is none."""
    # The weights are in place first. They carry the config too, and are read with that: at every
    # moment the folder holds the old model or the new one.
    with contextlib.ExitStack() as stack:
        checkpoint.write_config(stack.enter_context(whole_file(folder / CONFIG)), detector)
        if not (folder / CARD).exists():
            stack.enter_context(whole_file(folder / CARD)).write_text(card)
        checkpoint.write_weights(folder / WEIGHTS, detector)


def upload(
    repo_id: str,
    detector: Detector,
    *,
    license: str | None,
    private: bool | None,
    token: str | bool | None,
    **options: Any,
) -> str:
    """Upload a model and return the address of the commit; see `Model.push_to_hub`."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save(folder, detector, license=license, overwrite=False)
        if api.file_exists(repo_id, CARD, revision=options.get("revision")):
            (folder / CARD).unlink()
        else:
            (folder / CARD).write_text(model_card(detector.config, repo_id, license))
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, **{"commit_message": "Upload model", **options}
        )
    return str(commit.pr_url or commit.commit_url)


def model_card(config: Config, name: str, license: str | None = None) -> str:
    """Return the text that a model's page on the hub shows.

    Args:
        name: what `scnet.load` is given, a hub id or a folder.
        license: identifier such as "apache-2.0"; without one the card says nothing about it.
    """
    from huggingface_hub import ModelCardData

    about = ModelCardData(
        library_name="scnet",
        pipeline_tag="image-segmentation",
        tags=["instance-segmentation", "object-detection"],
        license=license,
    )
    model = config.model
    classes = config.classes or ("names unknown",)
    return f"""---
{about.to_yaml()}
---

# {name}

Finds and outlines objects: a box, a class and a mask for each.

- Architecture: {config.recipe}, backbone {model.backbone.name}
- Classes ({model.num_classes}): {", ".join(classes)}
- Images: {_size(config.data)}

The package is `scnet-seg` (`pip install scnet-seg`), which is imported as `scnet`:

```python
import scnet

model = scnet.load("{name}")
found = model.predict("photo.jpg", score=0.5)
found.plot().save("photo_masks.png")
```
"""


def _size(data: DataConfig) -> str:
    first, second = data.size
    if data.scale_factor is not None:
        return f"enlarged {data.scale_factor:g} times, whatever their size"
    if data.keep_ratio:
        return f"shorter side {first} pixels, longer side at most {second}"
    return f"resized to a height of {first} and a width of {second} pixels, whatever their shape"
