"""Latents of many sentences in a file: ids, digests of the texts, means and log-variances.

Files are put together from chunks and never in memory as a whole: ``.npz``, ``.safetensors``, and
``.parquet`` with the extra of that name.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..runtime.files import json_text, why

SUFFIXES = (".npz", ".safetensors", ".parquet")
ARRAYS = ("ids", "hashes", "mean", "logvar")
_NAMES = {"int64": "I64", "uint64": "U64", "float32": "F32", "float16": "F16"}


class Latents(NamedTuple):
    """Posteriors of N sentences."""

    ids: np.ndarray  # (N,) int64, the number of the sentence's record or its own id
    hashes: np.ndarray  # (N,) uint64, see `text_hash`
    mean: np.ndarray  # (N, Z)
    logvar: np.ndarray  # (N, Z)
    about: dict[str, Any]
    """Which model and file they are of."""


def text_hash(text: str) -> int:
    """The first 64 bits of the SHA-256 of ``text``: shows whether latents are of the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def check_writable(path: Path) -> None:
    """Raise ``ImportError`` where the form of ``path`` needs a package that is not installed."""
    if path.suffix == ".parquet":
        _import_parquet()


def pack_chunk(ids: Sequence[int], texts: Sequence[str], mean: Any, logvar: Any) -> bytes:
    """Latents of a few sentences as the content of a chunk."""
    hashes = [text_hash(text) for text in texts]
    return save(
        {
            "ids": np.array(ids, np.int64),
            "hashes": np.array(hashes, np.uint64),
            "mean": np.ascontiguousarray(mean),
            "logvar": np.ascontiguousarray(logvar),
        }
    )


def join_chunks(chunks: Sequence[Path], target: Path, about: dict[str, Any]) -> int:
    """Write the ``chunks``, one after the other, to ``target``; returns the sentences.

    The form is that of the ending of ``target``, which is written in place: give a name to be
    renamed.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, np.dtype[Any]] = {}
    for chunk in chunks:
        arrays = _read_chunk(chunk)
        for name in ARRAYS:
            before = shapes.get(name, (0,))[0]
            kinds[name] = arrays[name].dtype
            shapes[name] = (before + len(arrays[name]), *arrays[name].shape[1:])
    write = {".npz": _write_npz, ".safetensors": _write_safetensors, ".parquet": _write_parquet}
    write[target.suffix](chunks, target, shapes, kinds, json_text(about))
    return shapes["ids"][0]


def load_latents(path: str | Path) -> Latents:
    """Read what `optimus encode` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no latents.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no latents {path}; `optimus encode` writes them")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                found = {name: content[name] for name in ARRAYS}
                about = str(content["about"])
        elif path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:
                found = {name: file.get_tensor(name) for name in ARRAYS}
                about = file.metadata()["about"]
        else:
            table = _import_parquet().read_table(path)
            found = {name: _column(table, name) for name in ARRAYS}
            about = table.schema.metadata[b"about"].decode()
        return Latents(**found, about=json.loads(about))
    except (KeyError, ValueError, TypeError, OSError, SafetensorError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no latents of `optimus encode` ({why(error)})") from error


def _read_chunk(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in ARRAYS}


def _parts(chunks: Sequence[Path], name: str) -> Iterable[bytes]:
    for chunk in chunks:
        with safe_open(chunk, "numpy") as file:
            yield file.get_tensor(name).tobytes()


def _write_npz(chunks: Sequence[Path], target: Path, shapes: Any, kinds: Any, about: str) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in ARRAYS:
            header = {"descr": kinds[name].str, "fortran_order": False, "shape": shapes[name]}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, header)
                for part in _parts(chunks, name):
                    file.write(part)
        with archive.open("about.npy", "w") as file:
            np.lib.format.write_array(file, np.array(about), allow_pickle=False)


def _write_safetensors(
    chunks: Sequence[Path], target: Path, shapes: Any, kinds: Any, about: str
) -> None:
    header: dict[str, Any] = {"__metadata__": {"about": about}}
    end = 0
    for name in ARRAYS:
        begin, end = end, end + int(np.prod(shapes[name])) * kinds[name].itemsize
        kind = _NAMES[kinds[name].name]
        header[name] = {"dtype": kind, "shape": list(shapes[name]), "data_offsets": [begin, end]}
    text = json_text(header).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ARRAYS:
            for part in _parts(chunks, name):
                file.write(part)


def _write_parquet(
    chunks: Sequence[Path], target: Path, shapes: Any, kinds: Any, about: str
) -> None:
    parquet = _import_parquet()
    import pyarrow

    width = shapes["mean"][1]
    vector = pyarrow.list_(pyarrow.from_numpy_dtype(kinds["mean"]), width)
    types = {"ids": pyarrow.int64(), "hashes": pyarrow.uint64(), "mean": vector, "logvar": vector}
    schema = pyarrow.schema(list(types.items()), metadata={"about": about})
    with parquet.ParquetWriter(target, schema) as writer:
        for chunk in chunks:
            arrays = _read_chunk(chunk)
            columns = [
                pyarrow.array(arrays[name])
                if arrays[name].ndim == 1
                else pyarrow.FixedSizeListArray.from_arrays(arrays[name].ravel(), type=types[name])
                for name in ARRAYS
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def _column(table: Any, name: str) -> np.ndarray:
    column = table[name].combine_chunks()
    if name in ("ids", "hashes"):
        return column.to_numpy()
    return column.flatten().to_numpy().reshape(len(table), -1)


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "files that end in .parquet need pyarrow, which is an extra: "
            "pip install 'optimus-vae[parquet]'"
        ) from error
    return pyarrow.parquet
