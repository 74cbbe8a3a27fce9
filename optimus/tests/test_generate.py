import io
from dataclasses import replace

import pytest

from optimus.__main__ import main
from optimus.api import SentenceVAE
from optimus.data.toy import toy_sentences, write_toy
from optimus.tasks.language_model import PRESETS, ObjectiveOptions, train

A, B, C = toy_sentences(3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    config = PRESETS["smoke"][1]
    data = replace(config.data, folder=write_toy(folder / "toy", sizes=(120, 20, 20)))
    config = replace(config, run_dir=folder / "run", data=data, max_steps=2, device="cpu")
    train(config)
    return config


@pytest.fixture
def made(run, capsys):
    """Lines that ``optimus generate KIND ...`` prints with the model of ``run``."""

    def lines(kind: str, *words: str) -> list[str]:
        shared = ["--model", str(run.run_dir), "--decoding.max-new-tokens", "12"]
        with pytest.raises(SystemExit) as stopped:
            main(["generate", kind, *shared, *words])
        output = capsys.readouterr()
        assert stopped.value.code == 0, output.err
        return output.out.split("\n")[:-1]

    return lines


def test_reconstruction_puts_the_sentence_before_what_came_back(made, run):
    vae = SentenceVAE.from_pretrained(run.run_dir / "model")
    lines = made("reconstruct", "--texts", A, B, "--decoding.max-new-tokens", "5")
    assert [line.split("\t")[0] for line in lines] == [A, B]
    assert vae is not None


def test_sentences_come_from_a_file_and_from_standard_input(made, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text(f"{A}\n\n{B}\n{C}\n")
    from_file = made("reconstruct", "--file", str(tmp_path / "in.txt"), "--limit", "3")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{A}\n\n{B}\n".encode())))
    assert made("reconstruct", "--file", "-") == from_file
    assert [line.split("\t")[0] for line in from_file] == [A, "", B]


def test_input_and_output_go_together_line_by_line(run, tmp_path, ends):
    lines = ["the dog\u2028 barks .", "", f"{A}\x0b", "", B]
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in lines))
    words = ("reconstruct", "--model", run.run_dir, "--file", tmp_path / "in.txt")
    ends("generate", *words, "--output", tmp_path / "out.txt")
    made = (tmp_path / "out.txt").read_bytes().decode().removesuffix("\n").split("\n")
    assert [line.split("\t")[0] for line in made] == [line.strip() for line in lines]


def test_standard_input_of_another_encoding_is_named(run, fails, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\ncaf\xe9\n")))
    message = fails("generate", "reconstruct", "--model", run.run_dir, "--file", "-")
    assert "standard input line 2 is no UTF-8 text" in message


@pytest.mark.parametrize(("points", "count"), [("dataset", 5), ("interactive", 6)])
def test_interpolation_has_the_points_of_its_convention(made, points, count):
    lines = made("interpolate", "--texts", A, B, "--steps", "4", "--points", points)
    assert len(lines) == count


def test_pairs_of_a_file_are_interpolated_one_after_the_other(made, tmp_path):
    (tmp_path / "pairs.txt").write_text(f"{A}\t{B}\n{B}\t{C}\n")
    lines = made("interpolate", "--file", str(tmp_path / "pairs.txt"), "--steps", "3")
    assert len(lines) == 8
    assert lines[:4] == made("interpolate", "--texts", A, B, "--steps", "3")


def test_an_analogy_of_degree_0_is_the_reconstruction(made):
    answer = made("analogy", "--source", A, "--target", B, "--texts", C, "--degree", "0")
    assert answer == [made("reconstruct", "--texts", C)[0].split("\t")[1]]


def test_analogies_are_read_from_a_file_of_triples(made, tmp_path):
    (tmp_path / "triples.txt").write_text(f"{A}\t{B}\t{C}\n")
    from_file = made("analogy", "--file", str(tmp_path / "triples.txt"))
    assert from_file == made("analogy", "--source", A, "--target", B, "--texts", C)


def test_samples_depend_on_the_seed_alone(made):
    words = ["--count", "5", "--decoding.strategy", "sample", "--decoding.top-k", "20"]
    one, again = made("sample", *words), made("sample", *words)
    assert one == again
    assert len(one) == 5
    assert made("sample", *words, "--seed", "7") != one


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_every_strategy_writes_a_file(made, strategy, tmp_path):
    file = tmp_path / "out/made.txt"
    assert made("sample", "--decoding.strategy", strategy, "--output", str(file)) == []
    assert len(file.read_text().split("\n")[:-1]) == 10


def test_repeats_are_left_out_on_request(made):
    lines = made("interpolate", "--texts", A, A, "--steps", "4", "--unique")
    assert len(lines) == 1


def test_a_language_model_samples_without_a_latent(run, tmp_path, capsys):
    config = replace(
        run,
        run_dir=tmp_path,
        model=replace(run.model, inject="none"),
        objective=ObjectiveOptions(kind="language-model"),
    )
    train(config)
    with pytest.raises(SystemExit) as stopped:
        main(["generate", "sample", "--model", str(tmp_path), "--count", "3"])
    assert stopped.value.code == 0
    assert len(capsys.readouterr().out.split("\n")[:-1]) == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dream"], "unknown kind 'dream'"),
        (["sample", "--model", "nowhere"], "nowhere does not exist"),
        (["reconstruct", "--model", "RUN"], "no sentence given"),
        (["interpolate", "--model", "RUN", "--texts", "one"], "takes two sentences"),
        (["analogy", "--model", "RUN", "--texts", "one"], "source TAB target TAB input"),
        (["reconstruct", "--model", "RUN", "--file", "nowhere"], "--file nowhere does not exist"),
    ],
)
def test_bad_input_is_one_sentence(run, words, expected, fails):
    words = [str(run.run_dir) if word == "RUN" else word for word in words]
    assert expected in fails("generate", *words)


def test_help_describes_the_kinds(ends):
    output = ends("generate", "--help")
    for kind in ("reconstruct", "sample", "interpolate", "analogy"):
        assert f"  {kind} " in output
    assert "Decode draws from the prior." in output
    assert "`optimus generate KIND --help`" in output
