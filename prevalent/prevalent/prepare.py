"""``prevalent prepare NAME``: fetch data sets, check them, make features and triplets.

Running it again does nothing that is done already. Where a place needs a login or has gone, the
message names the file to put by hand.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .config import default_data_dir
from .data import r4r, reverie, rxr, soon
from .data.hanna import HELPERS, read_routes, read_tasks
from .data.instructions import AUGMENTED, expand, read_paths, refuse_repeated
from .data.records import read_json_lines, read_json_list
from .data.tokenizers import build_vocabulary, write_vocabulary
from .runtime.command import choose, parse
from .runtime.download import download, extract
from .runtime.files import json_text, write_atomically
from .simulator.graph import load_graphs, read_scans

logger = logging.getLogger(__name__)

DROPBOX = "https://www.dropbox.com/s/"
SIMULATOR = "https://raw.githubusercontent.com/peteanderson80/Matterport3DSimulator/master/"
R2R_FILES = {
    "train": (
        "hh5qec8o5urcztn",
        "30af70d96ea217778ba0d1b3085a774a13f36266fef39a13dbe8b03516fbf988",
    ),
    "val_seen": (
        "8ye4gqce7v8yzdm",
        "755633db9d5e64d5ca71d329c5046bb722781a09f0d1d501d7e8d094c83652ec",
    ),
    "val_unseen": (
        "p6hlckr70a07wka",
        "1cc730adc1c098998ac9191462849fc725e0c5336984a35bfbac7d5f044e682c",
    ),
    "test": (
        "w4pnbwqamwzdwd1",
        "f7e28b527ab7fd209010439b327269c18d315888c68ecc81486ef20d58046f10",
    ),
}
NDH_FILES = {
    "train": ("NDH/train_val/train.json", None),
    "val_seen": (
        "NDH/train_val/val_seen.json",
        "9fc7963ffcb41a8e592db21eb6201e910096c3d3921bceb670a22f683f31f273",
    ),
    "val_unseen": (
        "NDH/train_val/val_unseen.json",
        "7cf9e3ccc5f45286ce1a333232e384f73fceb7b40da1d6f2b3f6e96c742efc5f",
    ),
    "test": ("NDH/test_cleaned/test_cleaned.json", None),
}
FEATURE_ZIPS = {
    "imagenet": "o57kxh2mn5rkx4o/ResNet-152-imagenet.zip",
    "places365": "85tpa6tc3enl5ud/ResNet-152-places365.zip",
}
AUGMENTED_PLACES = {
    "envdrop": "https://www.cs.unc.edu/~airsplay/aug_paths.json",
    "prevalent": "https://zenodo.org/record/4437864/files/prevalent_aug.json?download=1",
    "speaker-follower": (
        "https://people.eecs.berkeley.edu/~ronghang/projects/speaker_follower/data_augmentation/"
        "R2R_literal_speaker_data_augmentation_paths.json"
    ),
}
RXR_PLACE = "https://storage.googleapis.com/rxr-data"
RXR_PAGE = "https://github.com/google-research-datasets/RxR"
REVERIE_SPLITS = ("train", "val_seen", "val_unseen", "test")
UNCASED_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
NUM_SCANS = 90
OLD_NETWORK = "--resnet"


@dataclass(frozen=True)
class PrepareConfig:
    """Fetch, check or make a data set below --data-dir."""

    data_dir: Path = field(default_factory=default_data_dir)
    """Folder that gets connectivity/, r2r/, r4r/, rxr/, ndh/, hanna/, vocab/, features/,
    triplets/; reverie/ and soon/ are put there by hand."""
    features: str = "imagenet"
    """features: which released set to fetch, imagenet or places365."""
    skyboxes: Path | None = None
    """features: make them from SCAN/matterport_skybox_images/ below this folder instead."""
    network: Path | None = None
    """features: folder of a ResNet, ViT or CLIP (config.json, model.safetensors), with
    --skyboxes."""
    layer: Literal["pooled", "projected"] = "pooled"
    """features: of CLIP, the image encoder's own numbers or those that are compared with texts."""
    classes: bool = False
    """features: append the network's classes (768 + 1,000 columns of a ViT)."""
    device: str = "auto"
    """features: where the network runs."""
    splits: tuple[str, ...] = ("train",)
    """triplets: R2R splits, or paths of files in R2R's format (augmented paths)."""
    vocabulary: Path | None = None
    """triplets: WordPiece vocabulary; vocab/bert/bert-base-uncased-vocab.txt if not given."""
    output: Path | None = None
    """triplets: the JSON file to write; triplets/shortest_SPLITS.json if not given. features: the
    .npy, .hdf5 or .tsv file; features/NETWORK-skyboxes.npy if not given."""

    def __post_init__(self) -> None:
        if self.features not in FEATURE_ZIPS:
            raise ValueError(f"--features must be one of {sorted(FEATURE_ZIPS)}")
        if (self.skyboxes is None) != (self.network is None):
            raise ValueError("--skyboxes and --network go together: images and the network")
        refuse_repeated(splits=self.splits)


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent prepare r2r --data-dir data``."""
    texts = {name: (work.__doc__ or "").partition("\n")[0] for name, work in WORK.items()}
    words = [OLD_NAMES.get(argv[0], argv[0]), *argv[1:]] if argv else []
    name, options = choose(texts, words, "prevalent prepare", "name", PrepareConfig.__doc__ or "")
    if any(word.partition("=")[0] == OLD_NETWORK for word in options):
        logger.warning("--resnet is called --network now; the old name goes with the next version")
        options = [word.replace(OLD_NETWORK, "--network", 1) for word in options]
    config = parse(PrepareConfig, options, f"prevalent prepare {name}")
    print(f"{name}: {WORK[name](config)}")


def prepare_connectivity(config: PrepareConfig) -> Path:
    """Navigation graphs of the 90 scans; every file is parsed."""
    folder = config.data_dir / "connectivity"
    download(f"{SIMULATOR}connectivity/scans.txt", folder / "scans.txt")
    scans = read_scans(folder)
    if len(scans) != NUM_SCANS:
        raise ValueError(f"{folder / 'scans.txt'} lists {len(scans)} scans, expected {NUM_SCANS}")
    for scan in scans:
        name = f"{scan}_connectivity.json"
        download(f"{SIMULATOR}connectivity/{name}", folder / name)
    load_graphs(folder, scans)
    return folder


def prepare_r2r(config: PrepareConfig) -> Path:
    """Room-to-Room annotations and the word vocabularies."""
    folder = config.data_dir / "r2r"
    for split, (key, sha256) in R2R_FILES.items():
        name = f"R2R_{split}.json"
        download(f"{DROPBOX}{key}/{name}?dl=1", folder / name, sha256=sha256)
    for name in ("train_vocab.txt", "trainval_vocab.txt"):
        download(f"{SIMULATOR}tasks/R2R/data/{name}", folder / name)
    return folder


def prepare_ndh(config: PrepareConfig) -> Path:
    """Navigation from Dialog History."""
    folder = config.data_dir / "ndh"
    for split, (place, sha256) in NDH_FILES.items():
        path = download(
            f"https://cvdn.dev/dataset/{place}", folder / f"{split}.json", sha256=sha256
        )
        read_json_list(path, "fetch it again")
    return folder


def prepare_hanna(config: PrepareConfig) -> Path:
    """HANNA's tasks, routes and vocabulary; every record is read."""
    folder = config.data_dir / "hanna"
    if not (folder / "hanna_train.json").exists():
        archive = config.data_dir / "archives" / "hanna_data.zip"
        download(f"{DROPBOX}qfahoe22vh1cdhn/hanna_data.zip?dl=1", archive)
        unpacked = extract(archive, config.data_dir / "archives" / "hanna_data")
        found = next(unpacked.rglob("hanna_train.json"), None)
        if found is None:
            raise ValueError(f"{archive} holds no hanna_train.json; move it away and try again")
        found.parent.rename(folder)
    for split in HELPERS:
        read_tasks(config.data_dir, split)
    read_routes(config.data_dir)
    return folder


def prepare_vocabulary(config: PrepareConfig) -> Path:
    """BERT's uncased WordPiece vocabulary."""
    path = config.data_dir / "vocab" / "bert" / "bert-base-uncased-vocab.txt"
    return download(
        "https://huggingface.co/bert-base-uncased/resolve/main/vocab.txt",
        path,
        sha256=UNCASED_SHA256,
    )


def prepare_multilingual_vocabulary(config: PrepareConfig) -> Path:
    """BERT's multilingual WordPiece vocabulary, for RxR."""
    path = config.data_dir / "vocab" / "bert" / "bert-base-multilingual-uncased-vocab.txt"
    return download(
        "https://huggingface.co/bert-base-multilingual-uncased/resolve/main/vocab.txt", path
    )


def prepare_features(config: PrepareConfig) -> Path:
    """View features: the released TSV, or our own from skybox images and a network."""
    folder = config.data_dir / "features"
    if config.skyboxes is not None and config.network is not None:
        from .data.extraction import extract_features

        graphs = load_graphs(config.data_dir / "connectivity")
        path = config.output or folder / f"{config.network.name}-skyboxes.npy"
        if not path.exists():
            extract_features(
                config.skyboxes,
                graphs,
                config.network,
                path,
                layer=config.layer,
                classes=config.classes,
                device=config.device,
            )
        return path
    path = folder / f"ResNet-152-{config.features}.tsv"
    if not path.exists():
        archive = config.data_dir / "archives" / f"ResNet-152-{config.features}.zip"
        download(f"{DROPBOX}{FEATURE_ZIPS[config.features]}?dl=1", archive)
        extract(archive, folder)
    return path


def prepare_aug_envdrop(config: PrepareConfig) -> Path:
    """R2R paths with instructions by EnvDrop's speaker, the split envdrop."""
    return _prepare_augmented(config, "envdrop")


def prepare_aug_prevalent(config: PrepareConfig) -> Path:
    """The instructions that PREVALENT was pre-trained on, the split prevalent (1.5 GB)."""
    return _prepare_augmented(config, "prevalent")


def prepare_aug_speaker_follower(config: PrepareConfig) -> Path:
    """R2R paths with instructions by Speaker-Follower's speaker, the split speaker-follower."""
    return _prepare_augmented(config, "speaker-follower")


def _prepare_augmented(config: PrepareConfig, name: str) -> Path:
    path = config.data_dir / "r2r" / AUGMENTED[name]
    download(AUGMENTED_PLACES[name], path)
    expand(read_paths(config.data_dir, name), path)
    return path


def prepare_r4r(config: PrepareConfig) -> Path:
    """Room-for-Room, made from Room-to-Room and its graphs by the published rule."""
    folder = config.data_dir / "r4r"
    folder.mkdir(parents=True, exist_ok=True)
    for split in r4r.SPLITS:
        path = folder / f"R4R_{split}.json"
        if path.exists():
            continue
        items = read_paths(config.data_dir, split)
        scans = sorted({one.scan for one in expand(items)})
        joined = r4r.join_paths(items, load_graphs(config.data_dir / "connectivity", scans))
        count = sum(len(record["instructions"]) for record in joined)
        logger.info("%s: %d paths, %d instructions", path.name, len(joined), count)
        write_atomically(path, json_text(joined) + "\n")
    return folder


def prepare_rxr(config: PrepareConfig) -> Path:
    """Room-across-Room: guides, followers, and the words of its English guides."""
    folder = config.data_dir / "rxr"
    for name in (*rxr.FILES.values(), *rxr.FOLLOWERS.values()):
        path = folder / f"{name}.jsonl.gz"
        try:
            download(f"{RXR_PLACE}/{path.name}", path)
        except OSError as error:
            raise OSError(f"{error}; the data are described on {RXR_PAGE}") from None
    for split in rxr.FILES:
        guides = rxr.read_rxr(config.data_dir, split)
        if split == "train" and not (folder / "train_vocab.txt").exists():
            english = [one.text for one in guides if one.item["language"] in rxr.LANGUAGES["en"]]
            write_vocabulary(folder / "train_vocab.txt", build_vocabulary(english))
    for split in rxr.FOLLOWERS:
        for _ in rxr.read_followers(config.data_dir, split):
            pass
    return folder


def prepare_reverie(config: PrepareConfig) -> Path:
    """REVERIE's files, which are put there by hand; every record is read."""
    folder = config.data_dir / "reverie"
    wanted = [folder / f"REVERIE_{split}.json" for split in REVERIE_SPLITS]
    if not any(path.exists() for path in wanted):
        raise FileNotFoundError(
            "REVERIE is not fetched by this program: take REVERIE_train.json, "
            "REVERIE_val_seen.json, REVERIE_val_unseen.json, REVERIE_test.json and BBoxes.json "
            f"from {reverie.PAGE} and put them in {folder}"
        )
    for split, path in zip(REVERIE_SPLITS, wanted, strict=True):
        if path.exists():
            reverie.read_reverie(config.data_dir, split)
    return folder


def prepare_soon(config: PrepareConfig) -> Path:
    """SOON's files, which are put there by hand; every record is read."""
    folder = config.data_dir / "soon"
    files = [path for path in sorted(folder.glob("*.json*")) if path.is_file()]
    if not files:
        raise FileNotFoundError(
            "SOON is not fetched by this program, because its files stand in Google Drive: take "
            f"train.json, val_unseen_instrs.json, val_unseen_house.json and test.json from the "
            f"links of {soon.PAGE} and put them in {folder}"
        )
    for path in files:
        soon.read_soon(config.data_dir, path.name.partition(".")[0])
    return folder


def prepare_triplets(config: PrepareConfig) -> Path:
    """Image-text-action triplets along shortest paths, in the format of the released files."""
    from .data.instructions import read_instructions, with_goals
    from .data.tokenizers import WordPieceTokenizer
    from .data.triplets import collect_triplets, write_triplets

    names = "-".join(Path(split).stem for split in config.splits)
    output = config.output or config.data_dir / "triplets" / f"shortest_{names}.json"
    if output.exists():
        return output
    vocabulary = config.vocabulary or (
        config.data_dir / "vocab" / "bert" / "bert-base-uncased-vocab.txt"
    )
    tokenizer = WordPieceTokenizer(vocabulary)
    read = read_instructions(config.data_dir, config.splits)
    instructions = with_goals(read, " ".join(config.splits))
    scans = sorted({instruction.scan for instruction in instructions})
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    tokens = tokenizer.encode_sentences([instruction.text for instruction in instructions])
    output.parent.mkdir(parents=True, exist_ok=True)
    write_triplets(output, collect_triplets(graphs, instructions, tokens))
    return output


def prepare_toy(config: PrepareConfig) -> Path:
    """A small world made by code, in the official formats."""
    from .data.toy import ToyConfig, write_toy

    write_toy(config.data_dir, ToyConfig())
    return config.data_dir


def describe(config: PrepareConfig) -> str:
    """What is there below --data-dir."""
    counts = {
        path.relative_to(config.data_dir).as_posix(): len(json.loads(path.read_text()))
        for folder in ("r2r", "r4r", "reverie", "soon", "ndh", "hanna")
        for path in sorted((config.data_dir / folder).glob("*.json"))
    }
    for path in sorted((config.data_dir / "rxr").glob("*.jsonl*")):
        counts[f"rxr/{path.name}"] = sum(1 for _ in read_json_lines(path, "fetch it again"))
    return "\n".join(f"{name}: {count} records" for name, count in counts.items()) or "nothing yet"


WORK: dict[str, Callable[[PrepareConfig], Path | str]] = {
    "connectivity": prepare_connectivity,
    "r2r": prepare_r2r,
    "r4r": prepare_r4r,
    "rxr": prepare_rxr,
    "reverie": prepare_reverie,
    "soon": prepare_soon,
    "ndh": prepare_ndh,
    "hanna": prepare_hanna,
    "vocabulary": prepare_vocabulary,
    "multilingual-vocabulary": prepare_multilingual_vocabulary,
    "features": prepare_features,
    "aug-envdrop": prepare_aug_envdrop,
    "aug-prevalent": prepare_aug_prevalent,
    "aug-speaker-follower": prepare_aug_speaker_follower,
    "triplets": prepare_triplets,
    "toy": prepare_toy,
    "list": describe,
}
OLD_NAMES = {"aug-paths": "aug-envdrop"}
"""Names of version 0.1."""
