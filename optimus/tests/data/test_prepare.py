import json
import logging
import zipfile

import pytest

from optimus.data import prepare
from optimus.data.prepare import CORPORA, SplitConfig, dialog_turns, main

FILES = {"train.txt": "a b .\n", "valid.txt": "c d .\n", "test.txt": "e f .\n"}


def pack(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def read(folder):
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


@pytest.fixture
def snli(tmp_path):
    """Twenty pairs of which each second sentence occurs twice."""
    pairs = [
        {
            "sentence1_binary_parse": f"( A ( dog{i} barks ) )",
            "sentence2_binary_parse": f"( It{i // 2} -LRB- barks )",
        }
        for i in range(20)
    ]
    pairs.append({"sentence1_binary_parse": "N/A", "sentence2_binary_parse": "N/A"})
    text = "".join(json.dumps(pair) + "\n" for pair in pairs)
    return pack(tmp_path / "snli.zip", {"snli_1.0/snli_1.0_train.jsonl": text})


@pytest.mark.parametrize("name", ["yelp", "yahoo", "snli-authors", "penn"])
def test_an_archive_at_hand_becomes_three_files(tmp_path, name):
    source = pack(tmp_path / "data.zip", {f"inner/{key}": text for key, text in FILES.items()})
    main([name, "--folder", str(tmp_path / "out"), "--source", str(source)])
    assert read(tmp_path / "out") == FILES


def test_a_folder_at_hand_becomes_three_files(tmp_path):
    (tmp_path / "in").mkdir()
    for name, text in FILES.items():
        (tmp_path / "in" / f"ptb.{name}").write_text(text)
    main(["penn", "--folder", str(tmp_path / "out"), "--source", str(tmp_path / "in")])
    assert read(tmp_path / "out") == FILES


def test_downloads_are_checked_and_named(tmp_path, monkeypatch):
    asked = []

    def download(url, path, sha256=None):
        asked.append((url, sha256))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n")

    monkeypatch.setattr(prepare, "download", download)
    main(["penn", "--folder", str(tmp_path)])
    assert [sha256 for _, sha256 in asked] == list(prepare.PENN_SHA256.values())
    assert all(url.startswith("https://") for url, _ in asked)


def test_a_failed_download_tells_the_manual_way(tmp_path, monkeypatch):
    def download(url, path, sha256=None):
        raise OSError(f"cannot download {url}; put it at {path}")

    monkeypatch.setattr(prepare, "download", download)
    with pytest.raises(OSError, match=r"yelp_data\.zip.*raw.*--source"):
        main(["yelp", "--folder", str(tmp_path)])


def test_what_is_whole_is_left_alone(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    options = ["toy", "--folder", str(tmp_path), "--train", "9", "--valid", "2", "--test", "2"]
    main(options)
    first = (tmp_path / "train.txt").stat().st_mtime_ns
    main(options)
    assert "already" in caplog.text
    assert (tmp_path / "train.txt").stat().st_mtime_ns == first
    (tmp_path / "train.txt").write_text("edited by hand\n")
    with pytest.raises(FileExistsError, match=r"train\.txt is not as `optimus prepare` wrote it"):
        main(options)
    (tmp_path / "train.txt").unlink()
    main(options)
    assert len((tmp_path / "train.txt").read_text().splitlines()) == 9
    main([*options, "--seed", "5"])
    assert json.loads((tmp_path / "corpus.json").read_text())["options"]["seed"] == "5"


@pytest.mark.parametrize("name", ["train", "test"])
def test_files_that_were_put_there_by_hand_stay(tmp_path, name):
    source, folder = tmp_path / "mine.txt", tmp_path / "out"
    source.write_text("".join(f"sentence {i}\n" for i in range(20)))
    folder.mkdir()
    (folder / f"{name}.txt").write_text("by hand\n")
    words = ["--source", str(source), "--folder", str(folder), "--valid", "2", "--test", "2"]
    with pytest.raises(FileExistsError, match=rf"{name}\.txt .* another --folder"):
        main(["text", *words])
    assert read(folder) == {f"{name}.txt": "by hand\n"}
    assert len([*folder.iterdir()]) == 1


def test_a_corpus_follows_its_source(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source, folder = tmp_path / "mine.txt", tmp_path / "out"
    words = ["--source", str(source), "--folder", str(folder), "--valid", "2", "--test", "2"]
    for what in ("old", "new", "new"):
        source.write_text("".join(f"{what} {i}\n" for i in range(20)))
        caplog.clear()
        main(["text", *words])
        assert all(
            line.startswith(what)
            for text in read(folder).values()
            for line in text.split("\n")[:-1]
        )
    assert "already" in caplog.text


def test_labels_beside_a_source_are_part_of_it(tmp_path):
    (tmp_path / "s.text").write_text("".join(f"sentence {i}\n" for i in range(9)))
    words = ["--source", str(tmp_path / "s.text"), "--folder", str(tmp_path / "out")]
    for label in "01":
        (tmp_path / "s.labels").write_text(f"{label}\n" * 9)
        main(["labeled", *words, "--train", "5", "--valid", "2", "--test", "2"])
        lines = [line for text in read(tmp_path / "out").values() for line in text.splitlines()]
        assert {line[0] for line in lines} == {label}


def test_an_interrupted_preparation_goes_on(tmp_path, monkeypatch):
    source = pack(tmp_path / "data.zip", FILES)
    words = ["yelp", "--folder", str(tmp_path / "out"), "--source", str(source)]
    write = prepare._write

    def stopped(folder, split, content):
        if split == "test":
            raise OSError("no space left")
        write(folder, split, content)

    monkeypatch.setattr(prepare, "_write", stopped)
    with pytest.raises(OSError, match="no space"):
        main(words)
    monkeypatch.setattr(prepare, "_write", write)
    main(words)
    assert read(tmp_path / "out") == FILES


def test_snli_becomes_unique_lower_case_sentences(snli, tmp_path):
    sizes = ["--train", "20", "--valid", "5", "--test", "5"]
    main(["snli", "--folder", str(tmp_path / "out"), "--source", str(snli), *sizes])
    lines = [text.splitlines() for text in read(tmp_path / "out").values()]
    assert sorted(map(len, lines)) == [5, 5, 20]
    unique = {line for part in lines for line in part}
    assert len(unique) == 30
    assert "a dog3 barks" in unique
    assert "it3 ( barks" in unique
    with pytest.raises(ValueError, match="30 different sentences"):
        main(["snli", "--folder", str(tmp_path / "out"), "--source", str(snli)])


def test_snli_from_a_folder_is_the_same(snli, tmp_path):
    with zipfile.ZipFile(snli) as archive:
        archive.extractall(tmp_path / "in")
    sizes = ["--train", "20", "--valid", "5", "--test", "5"]
    for name, source in (("a", snli), ("b", tmp_path / "in")):
        main(["snli", "--folder", str(tmp_path / name), "--source", str(source), *sizes])
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_damaged_snli_is_named(tmp_path):
    folder = ["--folder", str(tmp_path / "out"), "--source"]
    other = pack(tmp_path / "other.zip", FILES)
    with pytest.raises(ValueError, match=r"not snli_1\.0\.zip"):
        main(["snli", *folder, str(other)])
    other.write_bytes(b"PK broken")
    with pytest.raises(ValueError, match="no zip file"):
        main(["snli", *folder, str(other)])
    bad = pack(tmp_path / "bad.zip", {"snli_1.0/snli_1.0_train.jsonl": "{}\n"})
    with pytest.raises(ValueError, match="line 1"):
        main(["snli", *folder, str(bad)])
    with pytest.raises(FileNotFoundError, match="--source"):
        main(["snli", *folder, str(tmp_path / "none.zip")])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "snli_1.0_train.jsonl").write_bytes(b"\xe9\n")
    for source in (
        pack(tmp_path / "b.zip", {"a/snli_1.0_train.jsonl": b"\xe9\n"}),
        tmp_path / "in",
    ):
        with pytest.raises(ValueError, match=r"snli_1\.0_train\.jsonl line 1 is no UTF-8 text"):
            main(["snli", *folder, str(source)])


def test_ones_own_text_is_split_without_overlap(tmp_path):
    source = tmp_path / "mine.txt"
    source.write_text("".join(f"sentence {i % 50}\n\n" for i in range(100)))
    options = ["--source", str(source), "--valid", "5", "--test", "5"]
    main(["text", "--folder", str(tmp_path / "out"), *options])
    parts = [text.splitlines() for text in read(tmp_path / "out").values()]
    assert sorted(map(len, parts)) == [5, 5, 40]
    assert len({line for part in parts for line in part}) == 50
    with pytest.raises(FileNotFoundError, match="--source must name a text file"):
        main(["text", "--folder", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="--valid must be"):
        SplitConfig(tmp_path, valid=0)


def test_each_turn_is_answered_from_all_before():
    turns = list(dialog_turns("Hi . __eou__  Hello  ! __eou__ Bye . __eou__\n"))
    assert turns == ["Hi .\tHello !", "Hi . [SEP] Hello !\tBye ."]


def test_dailydialog_unpacks_its_inner_archives(tmp_path):
    for split in ("train", "validation", "test"):
        inner = {f"{split}/dialogues_{split}.txt": f"{split} . __eou__ yes . __eou__\n"}
        pack(tmp_path / f"{split}.zip", inner)
    outer = tmp_path / "ijcnlp_dailydialog.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        for split in ("train", "validation", "test"):
            archive.write(tmp_path / f"{split}.zip", f"ijcnlp_dailydialog/{split}.zip")
    main(["dailydialog", "--folder", str(tmp_path / "out"), "--source", str(outer)])
    assert read(tmp_path / "out") == {
        "train.txt": "train .\tyes .\n",
        "valid.txt": "validation .\tyes .\n",
        "test.txt": "test .\tyes .\n",
    }


def test_an_incomplete_archive_is_named(tmp_path):
    source = pack(tmp_path / "data.zip", {"train.txt": "a\n"})
    with pytest.raises(FileNotFoundError, match=r"no valid\.txt"):
        main(["yahoo", "--folder", str(tmp_path / "out"), "--source", str(source)])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        main(["yahoo", "--source", str(tmp_path / "none")])


def test_names_are_listed_and_checked(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in CORPORA)
    for words, said in (
        (["ptb"], r"unknown name 'ptb'; .* such as penn"),
        ([], "a name comes first"),
        (["--bogus"], "a name comes first"),
        (["--dry-run"], "a name comes first"),
    ):
        with pytest.raises(ValueError, match=said):
            main(words)


def test_labelled_text_is_split_with_its_labels(tmp_path):
    files = []
    for label in ("0", "1"):
        path = tmp_path / f"class{label}.txt"
        path.write_text("".join(f"sentence {label} {i}\n" for i in range(10)))
        files.append(str(path))
    options = ["--valid", "4", "--test", "4"]
    main(["labeled", "--folder", str(tmp_path / "a"), "--classes", *files, *options])
    rows = [
        row
        for split in ("train", "valid", "test")
        for row in read(tmp_path / "a")[f"{split}.txt"].splitlines()
    ]
    assert len(rows) == 20
    assert all(row.split("\t")[0] == row.split()[2] for row in rows)
    main(["toy-labels", "--folder", str(tmp_path / "b"), "--train", "9", *options])
    assert {row.split("\t")[0] for row in read(tmp_path / "b")["train.txt"].splitlines()} <= {
        "0",
        "1",
        "2",
    }
    with pytest.raises(ValueError, match="--classes"):
        main(["labeled", "--folder", str(tmp_path / "c")])


def test_texts_of_glue_lose_their_labels_and_keep_their_pairs(tmp_path):
    for name, lines in {
        "SST-2": ["sentence\tlabel", "a good film \t1", "a bad film\t0"],
        "RTE": ["index\tsentence1\tsentence2\tlabel", "0\ta dog\tno dog\tnot_entailment"],
    }.items():
        (tmp_path / "glue" / name).mkdir(parents=True)
        (tmp_path / "glue" / name / "train.tsv").write_text("\n".join(lines) + "\n")
    words = ["--folder", str(tmp_path / "out"), "--source", str(tmp_path / "glue")]
    main(["glue-text", *words, "--valid", "1", "--test", "1"])
    files = read(tmp_path / "out")
    assert files["SST-2.txt"] == "a good film\na bad film\n"
    assert files["RTE.txt"] == "a dog [SEP] no dog\n"
    parts = [files[f"{split}.txt"] for split in ("train", "valid", "test")]
    assert sorted("".join(parts).split("\n")) == sorted(
        (files["SST-2.txt"] + files["RTE.txt"]).split("\n")
    )
    with pytest.raises(FileNotFoundError, match="no folder named as a task"):
        main(["glue-text", "--folder", str(tmp_path / "no"), "--source", str(tmp_path / "out")])


def test_a_table_is_a_corpus_too(tmp_path):
    source = tmp_path / "reviews.csv"
    rows = [f'{number},"sentence number {number}, with a comma"\n' for number in range(30)]
    source.write_text("".join(["id,text\n", *rows]))
    words = ["text", "--source", str(source), "--column", "text", "--valid", "5", "--test", "5"]
    main([*words, "--folder", str(tmp_path / "corpus")])
    lines = (tmp_path / "corpus" / "train.txt").read_text().splitlines()
    assert len(lines) == 20
    assert all(line.endswith(", with a comma") for line in lines)
