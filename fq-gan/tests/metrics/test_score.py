"""`fqgan score`: any two sets, held against scipy, and the same numbers as the other commands."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from tiny_runs import begun, tiny_run, tiny_stylegan2
from ugatit_runs import tiny_ugatit

from fqgan.biggan.commands import EvaluateConfig, evaluate
from fqgan.data.hdf5 import write_hdf5
from fqgan.data.sets import open_set
from fqgan.data.toy import toy_images
from fqgan.metrics.distances import (
    Moments,
    expected_bias,
    extrapolated_distance,
    kernel_distance,
    manifold_scores,
    moments,
    polynomial_mmd,
)
from fqgan.metrics.features import TRANSFORMER_COLOURS, build_extractor, resize_like_pillow
from fqgan.metrics.score import ScoreConfig, main, score
from fqgan.runs import train
from fqgan.scoring import ScoringOptions

DATA = os.environ.get("FQGAN_DATA", "")


def write_folder(folder: Path, pixels: np.ndarray) -> str:
    """PNG files of (N, 3, H, W)."""
    folder.mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:04d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory) -> list[str]:
    """Folders of 100 images each: two classes of CIFAR-10, or of toy shapes where it is absent."""
    root = tmp_path_factory.mktemp("classes")
    archive = Path(DATA) / "images" / "cifar10_jpeg.zip"
    if not (DATA and archive.exists()):
        images = toy_images(2000, resolution=32)
        # Two shapes that the random features tell apart: most pairs are nearer than chance can say.
        parts = [images.pixels[images.labels == label][:100].numpy() for label in (0, 7)]
        return [write_folder(root / str(i), part) for i, part in enumerate(parts)]
    with zipfile.ZipFile(archive) as file:
        for number, top in enumerate(("train/frog/", "train/ship/")):
            (root / str(number)).mkdir()
            for name in [name for name in file.namelist() if name.startswith(top)][1:101]:
                (root / str(number) / Path(name).name).write_bytes(file.read(name))
    return [str(root / "0"), str(root / "1")]


def run(a: str, b: str = "", **options) -> dict:
    return score(ScoreConfig(a, b, features="random", device="cpu", **options))


def features_of(folder: str) -> np.ndarray:
    paths = sorted(Path(folder).iterdir())
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return build_extractor("random")(images).pool.double().numpy()


def test_the_distance_of_two_real_sets_is_that_of_scipys_root(two_classes):
    found = run(*two_classes, infinity=True)
    x, y = map(features_of, two_classes)
    # A little on the diagonal, as pytorch-fid adds where covariances are singular.
    a, b = (np.cov(part.T) + 1e-9 * np.eye(part.shape[1]) for part in (x, y))
    root = scipy.linalg.sqrtm(a @ b).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root)
    assert found["fid"] == pytest.approx(expected, rel=1e-3)
    kernel = lambda u, v: (u @ v.T / u.shape[1] + 1) ** 3  # noqa: E731
    n, m = len(x), len(y)
    own = [(kernel(u, u).sum() - kernel(u, u).trace()) / (len(u) * (len(u) - 1)) for u in (x, y)]
    mmd = sum(own) - 2 * kernel(x, y).sum() / (n * m)
    assert found["kid_x100"] == pytest.approx(100 * mmd, rel=1e-4)
    assert found["kid_x100_low"] < found["kid_x100"] < found["kid_x100_high"]
    # 100 images, 448 features: the limit differs from the score by no more than such a bias or two.
    assert found["fid_bias"] > 0
    assert abs(found["fid"] - found["fid_infinity"]) < 2 * found["fid_bias"]


def test_a_set_is_at_no_distance_from_itself_and_near_its_half(two_classes, tmp_path):
    first, second = two_classes
    same = run(first, first)
    assert same["fid"] == pytest.approx(0, abs=1e-4)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    paths = sorted(Path(first).iterdir())
    (tmp_path / "half").mkdir()
    for path in paths[::2]:
        (tmp_path / "half" / path.name).write_bytes(path.read_bytes())
    part = run(first, str(tmp_path / "half"))
    other = run(first, second)
    assert 0 < part["fid"] < other["fid"] / 2
    assert part["precision"] == 1
    assert abs(part["kid_x100"]) < other["kid_x100"] / 2


def test_every_form_of_the_same_images_is_read_alike(tmp_path):
    images = toy_images(24, resolution=16)
    pixels = images.pixels.numpy()
    forms = {"folder": write_folder(tmp_path / "folder" / "deep", pixels)}
    forms["folder"] = str(tmp_path / "folder")
    files = sorted((tmp_path / "folder" / "deep").iterdir())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in files:
            archive.write(file, f"any/{file.name}")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for file in files:
            archive.add(file, file.name)
    write_hdf5(images, tmp_path / "a.hdf5")
    np.savez(tmp_path / "x.npz", x=pixels, y=images.labels.numpy())
    np.savez(tmp_path / "arr.npz", pixels.transpose(0, 2, 3, 1))
    forms |= {name: str(tmp_path / name) for name in ("a.zip", "a.tar", "a.hdf5", "x.npz")}
    forms["unnamed"] = str(tmp_path / "arr.npz")
    kinds = {open_set(path).kind for path in forms.values()}
    assert kinds == {"folder", "zip", "tar", "hdf5", "npz"}
    first, *others = (torch.cat(list(open_set(path).batches(10))) for path in forms.values())
    for other in others:
        assert torch.equal(first, other)


def test_images_of_many_sizes_are_scored_as_they_are(tmp_path):
    generator = np.random.default_rng(0)
    for number, size in enumerate([(20, 30), (20, 30), (30, 20), (40, 40)] * 3):
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    own = open_set(str(tmp_path))
    assert {tuple(batch.shape[2:]) for batch in own.batches(5)} == {(20, 30), (30, 20), (40, 40)}
    assert sum(len(batch) for batch in own.batches(5)) == own.number == 12
    cut = open_set(str(tmp_path), resolution=16)
    assert {tuple(batch.shape[1:]) for batch in cut.batches(5)} == {(3, 16, 16)}
    assert run(str(tmp_path), str(tmp_path))["fid"] == pytest.approx(0, abs=1e-4)


def test_clean_fids_bicubic_filter_is_pillows():
    levels = torch.rand(1, 3, 40, 57) * 255
    ours = resize_like_pillow(levels, 24)
    for channel in range(3):
        image = Image.fromarray(levels[0, channel].numpy(), mode="F")
        theirs = np.asarray(image.resize((24, 24), Image.Resampling.BICUBIC)).clip(0, 255)
        np.testing.assert_allclose(ours[0, channel], theirs, atol=1e-3)


def test_statistics_are_exchanged_with_other_programs(two_classes, tmp_path):
    first, second = two_classes
    whole = run(first, second)
    assert run(first, save=str(tmp_path / "own.npz"))["a"]["images"] == 100
    for name in ("fid", "kid_x100", "coverage"):
        assert run(str(tmp_path / "own.npz"), second)[name] == pytest.approx(whole[name])
    x = features_of(first)
    with np.load(tmp_path / "own.npz") as own:  # as both programs read it
        np.testing.assert_allclose(own["mu"], x.mean(0), atol=1e-6)
        np.testing.assert_allclose(own["sigma"], np.cov(x.T), atol=1e-6)
    np.savez(tmp_path / "pytorch_fid.npz", mu=x.mean(0), sigma=np.cov(x.T))
    np.savez_compressed(tmp_path / "clean_kid.npz", feats=x.astype(np.float32))
    theirs = run(str(tmp_path / "pytorch_fid.npz"), second)
    assert theirs["fid"] == pytest.approx(whole["fid"], rel=1e-5)
    assert "kid_x100" not in theirs
    theirs = run(str(tmp_path / "clean_kid.npz"), second)
    assert theirs["kid_x100"] == pytest.approx(whole["kid_x100"], rel=1e-4)
    assert theirs["fid"] == pytest.approx(whole["fid"], rel=1e-4)
    np.savez(tmp_path / "odd.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="moments of 3 and of 448 features"):
        run(str(tmp_path / "odd.npz"), second)
    with pytest.raises(ValueError, match="--infinity needs images behind"):
        run(first, str(tmp_path / "pytorch_fid.npz"), infinity=True)


SCORING = ScoringOptions("random", num_images=20, batch_size=8, splits=2)


def test_training_evaluate_and_score_give_the_same_numbers(tmp_path):
    config = tiny_run(
        tmp_path / "run", max_steps=2, evaluate_every=2,
        scoring=replace(SCORING, cache_dir=str(tmp_path / "cache")),
    )  # fmt: skip
    config = replace(config, seed=3)
    train(config)
    write_hdf5(toy_images(40, seed=3, resolution=32), tmp_path / "data.hdf5")
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    trained = next(row for row in rows if "fid" in row)
    # Training scores the latents of seed + 1, so that they are not those it learns from.
    again = evaluate(
        EvaluateConfig(
            run_dir=str(tmp_path / "run"), device="cpu", seed=4, scoring=config.scoring,
            data=replace(config.data, source="hdf5", path=str(tmp_path / "data.hdf5")),
        )
    )  # fmt: skip
    found = run(
        str(tmp_path / "data.hdf5"),
        str(tmp_path / "run"),
        seed=4,
        splits=2,
    )
    for name in ("fid", "kid_x100", "kid_x100_std", "precision", "recall", "density", "coverage"):
        assert found[name] == pytest.approx(again[name]), name
        assert found[name] == pytest.approx(trained[name]), name
    assert found["b"]["kind"] == "biggan"
    weights = run(str(tmp_path / "data.hdf5"), str(tmp_path / "run/model"), num_images=20, seed=4)
    assert weights["b"]["images"] == 20


def test_a_run_of_stylegan2_is_scored_and_one_that_translates_says_what_to_do(tmp_path):
    train(tiny_stylegan2(tmp_path / "styles", scoring=SCORING))
    noise = write_folder(
        tmp_path / "noise", np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), np.uint8)
    )
    assert run(noise, str(tmp_path / "styles"))["b"]["images"] == 20
    begun(tmp_path / "ways", tiny_ugatit(tmp_path / "ways"))
    with pytest.raises(ValueError, match="fqgan translate and score that folder"):
        run(noise, str(tmp_path / "ways"))


def test_scores_are_printed_and_written_with_what_they_depend_on(two_classes, tmp_path, capsys):
    words = ["--features", "random", "--out", str(tmp_path / "scores.json"), "--device", "cpu"]
    main([*two_classes, *words])
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert printed["fid"] == written["fid"]
    assert written["provenance"]["settings"]["protocol"] == printed["protocol"]
    assert not printed["comparable"]
    assert (printed["resolution"], printed["subset_size"]) == (0, 1000)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "nowhere"), "nowhere does not exist; give a folder"),
        (("nowhere",), "give two sets, or one and --save"),
        (("nowhere", "--save", "a.txt"), "--save a.txt must end with .npz"),
    ],
)
def test_a_bad_set_is_named(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        main([*words, "--features", "random"])


def test_a_set_of_few_images_is_named_and_no_set_is_written_over(two_classes, tmp_path):
    few = np.zeros((5, 3, 8, 8), np.uint8)
    np.savez(tmp_path / "few.npz", x=few)
    whole, path = str(two_classes[0]), str(tmp_path / "few.npz")
    with pytest.raises(ValueError, match=r"few\.npz has 5 images to be scored; 6 or more"):
        run(whole, path)
    before = (tmp_path / "few.npz").read_bytes()
    with pytest.raises(ValueError, match=r"few\.npz exists and holds no statistics"):
        run(whole, save=path)
    assert (tmp_path / "few.npz").read_bytes() == before


def test_a_set_that_is_not_there_is_named_before_weights_that_are_not(two_classes, tmp_path):
    for sets in (("nowhere", two_classes[0]), (two_classes[0], "nowhere")):
        config = ScoreConfig(*sets, features="inception", weights=str(tmp_path / "none.pth"))
        with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
            score(config)
    with pytest.raises(FileNotFoundError, match=r"none\.pth is missing"):
        score(replace(config, b=two_classes[1]))


def test_a_source_before_a_colon_is_read_and_named_as_here(tmp_path):
    write_hdf5(toy_images(12, resolution=8), tmp_path / "toy.hdf5")
    assert open_set(f"hdf5:{tmp_path}/toy.hdf5").number == 12
    (tmp_path / "flat").mkdir()
    for path, said in (
        (f"shards:{tmp_path}/flat", "there is no archive"),
        ("zip:no.zip", r"no\.zip: there is no archive"),
        ("folder:none", "none is not a folder"),
        (f"images:{tmp_path}/flat", "holds no image"),
        ("hdf5:none.hdf5", r"none\.hdf5 does not exist"),
        (f"tfrecords:{tmp_path}/flat", "has no files NAME-rNN"),
        ("celeba:none", "none is not a folder"),
        ("toy:photos", "toy takes no path"),
        ("cifar10:", "cifar10: names no path"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said) as raised:
            open_set(path)
        assert "--data." not in str(raised.value)
    with pytest.raises(ValueError, match="toy images: 10000 of 4 pixels") as raised:
        open_set("toy:", resolution=4)
    assert "--data." not in str(raised.value)


def test_folders_and_archives_are_read_alike_with_and_without_their_source(tmp_path):
    pixels = toy_images(12, resolution=40).pixels.permute(0, 2, 3, 1).numpy()
    for part, place in enumerate(("train", "test")):
        (tmp_path / "photos" / place / "cat").mkdir(parents=True)
        for number in range(6):
            file = tmp_path / "photos" / place / "cat" / f"{number}.png"
            Image.fromarray(pixels[6 * part + number]).save(file)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in (tmp_path / "photos").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path))
    folder, packed = str(tmp_path / "photos"), str(tmp_path / "photos.zip")
    wanted = next(open_set(folder).batches(12))
    assert wanted.shape == (12, 3, 40, 40)
    for path in (
        f"folder:{folder}",
        f"images:{folder}",
        packed,
        f"zip:{packed}",
        f"shards:{packed}",
    ):
        same = torch.cat(list(open_set(path).batches(12)))
        assert torch.equal(same.sum(dim=(1, 2, 3)).sort()[0], wanted.sum(dim=(1, 2, 3)).sort()[0])


def test_other_files_are_no_sets(tmp_path):
    np.savez(tmp_path / "scalar.npz", x=np.uint8(3))
    with pytest.raises(ValueError, match=r"scalar\.npz holds no samples under 'x'"):
        run(str(tmp_path / "scalar.npz"), str(tmp_path / "scalar.npz"))
    (tmp_path / "a.csv").write_text("1,2")
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("a.csv", "no set of images that is known"),
        ("b.npz", "is no .npz file with samples"),
        ("empty", "holds no image"),
    ):
        with pytest.raises(ValueError, match=said):
            run(str(tmp_path / name), str(tmp_path / name))


def test_density_and_coverage_by_hand():
    # k = 1: balls of real 0, 1, 5 have radii 1, 1, 4. Fake 0.5 is in two, 7 in one, 40 in none.
    real = torch.tensor([[0.0], [1.0], [5.0]])
    fake = torch.tensor([[0.5], [7.0], [40.0]])
    found = manifold_scores(real, fake, 1, 1)
    assert found.density == pytest.approx((2 + 1 + 0) / 3)
    assert found.coverage == 1
    assert found.precision == pytest.approx(2 / 3)


def test_two_ranks_compute_what_one_does(two_ranks):
    x, y = torch.randn(70, 5), torch.randn(60, 5) + 0.5

    def both(rank):
        return kernel_distance(x, y, subset_size=70), manifold_scores(x, y, chunk=16)

    found = two_ranks(both)
    double = [part.double().numpy() for part in (x, y)]
    a, b = ((part @ part.T / 5 + 1) ** 3 for part in double)
    between = (double[0] @ double[1].T / 5 + 1) ** 3
    assert found[0] == found[1]
    inside = torch.cdist(y, x) <= torch.cdist(x, x).kthvalue(4, dim=1).values
    assert found[0][1].precision == pytest.approx(float(inside.any(1).double().mean()))
    own = [(one.sum() - one.trace()) / (len(one) * (len(one) - 1)) for one in (a, b)]
    mmd = sum(own) - 2 * between.mean()
    assert found[0][0].low < mmd < found[0][0].high


def test_the_interval_of_kid_holds_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    big = torch.randn(2, 3000, 1, generator=generator, dtype=torch.float64)
    truth = float(polynomial_mmd(big[0], big[1] + 1))
    held = 0
    for _ in range(40):
        x, y = torch.randn(2, 60, 1, generator=generator, dtype=torch.float64)
        found = kernel_distance(x, y + 1, subset_size=60)
        held += found.low < truth < found.high
    assert held >= 34


def test_fid_infinity_takes_the_bias_out():
    generator = torch.Generator().manual_seed(0)
    dim, number = 30, 200
    reference = Moments(torch.zeros(dim).double(), torch.eye(dim).double(), 10**6)
    features = torch.randn(number, dim, generator=generator)
    plain = moments(features)
    bias = expected_bias(reference, 10**6, number)
    found = extrapolated_distance(reference, features)
    raw = float((plain.mean**2).sum())
    assert abs(found.value) < bias / 2
    assert raw < bias < dim * (dim + 5) / (4 * number) * 1.3
    with pytest.raises(ValueError, match="at least 20 images"):
        extrapolated_distance(reference, features[:10])


@pytest.fixture(scope="module")
def transformer_folders(tmp_path_factory) -> Path:
    """DINOv2 and CLIP, its image tower alone and whole, tiny and with random weights."""
    transformers = pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    dino = transformers.Dinov2Config(**small, image_size=28, patch_size=14)
    transformers.Dinov2Model(dino).save_pretrained(root / "dino")
    vision = transformers.CLIPVisionConfig(
        **small, intermediate_size=16, image_size=32, patch_size=16, projection_dim=8
    )
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(root / "clip")
    text = {**small, "intermediate_size": 16, "vocab_size": 9, "eos_token_id": 2, "pad_token_id": 1}
    both = transformers.CLIPConfig(
        text_config=text, vision_config=vision.to_dict(), projection_dim=8
    )
    transformers.CLIPModel(both).save_pretrained(root / "both")
    return root


@pytest.mark.parametrize(
    ("name", "folder", "dim", "size"),
    [("dinov2", "dino", 16, 224), ("clip", "clip", 8, 32), ("clip", "both", 8, 32)],
)
def test_transformers_are_read_from_a_folder(transformer_folders, name, folder, dim, size):
    extractor = build_extractor(name, weights=str(transformer_folders / folder))
    images = torch.rand(2, 3, 20, 30) * 2 - 1
    seen = {}
    embed = extractor.network.forward
    extractor.network.forward = lambda **given: embed(**(seen.update(given) or given))
    pool, logits = extractor(images)
    assert pool.shape == (2, dim) == (2, extractor.dim)
    assert pool.isfinite().all()
    assert not torch.allclose(pool[0], pool[1])
    assert logits is None
    assert extractor.key.startswith(name)
    levels = ((images[1, 2] + 1) * 127.5).numpy()
    resized = Image.fromarray(levels, mode="F").resize((size, size), Image.Resampling.BICUBIC)
    expected = (np.asarray(resized).clip(0, 255) / 255 - TRANSFORMER_COLOURS[name][0][2]) / (
        TRANSFORMER_COLOURS[name][1][2]
    )
    np.testing.assert_allclose(seen["pixel_values"][1, 2], expected, atol=1e-3)


def test_a_folder_that_holds_no_such_transformer_is_named(transformer_folders, tmp_path):
    def changed(name: str, file: str, change) -> str:
        shutil.copytree(transformer_folders / "dino", tmp_path / name)
        path = tmp_path / name / file
        path.write_bytes(change(path.read_bytes()))
        return str(tmp_path / name)

    wide = changed("wide", "config.json", lambda text: text.replace(b"16", b"32"))
    deep = changed("deep", "config.json", lambda text: text.replace(b'layers": 1', b'layers": 2'))
    cut = changed("cut", "model.safetensors", lambda data: data[:-100])
    junk = changed("junk", "config.json", lambda text: b"{")
    for folder, said in (
        (wide, "wide do not fit its config.json: .* mismatched, the first is embeddings"),
        (deep, r"deep do not fit its config.json: .* missing, the first is encoder\.layer\.1"),
        (cut, "the weights in .*cut cannot be read"),
        (junk, r"junk/config\.json describes no network"),
    ):
        with pytest.raises(ValueError, match=said):
            build_extractor("dinov2", weights=folder)
    with pytest.raises(ValueError, match="holds a network of type dinov2"):
        build_extractor("clip", weights=str(transformer_folders / "dino"))
    for folder in ("", str(transformer_folders)):
        with pytest.raises(FileNotFoundError, match=r"needs a folder with config\.json.*--weights"):
            build_extractor("dinov2", weights=folder)


def test_a_damaged_archive_is_named(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = len(buffer.getvalue())
        archive.addfile(member, io.BytesIO(buffer.getvalue()))
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:540])
    with pytest.raises(ValueError, match=r"tar archive|cut off"):
        open_set(str(tmp_path / "cut.tar"))
    assert open_set(str(tmp_path / "a.tar")).number == 1


def test_a_set_that_is_read_is_not_written_over():
    for options in ({"out": "a.npz"}, {"out": "./b.npz"}, {"save": "b.npz"}):
        with pytest.raises(ValueError, match="is a set that is read; give another name"):
            ScoreConfig("a.npz", "b.npz", **options)
    ScoreConfig("a.npz", "b.npz", save="a.npz")  # the statistics of A again
