"""Raw data: a file of an installed package or beside the settings, read only if it is the stated one."""

import hashlib
import pickle
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from lzma import LZMAError
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ferrocast_training.errors import DataError
from ferrocast_training.settings import RawFile, Source, UseCase

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Raw:
    """The raw rows, and the further files of `[source] more`, by their names."""

    rows: pd.DataFrame
    more: dict[str, pd.DataFrame] = field(default_factory=dict)


def read_source(use_case: UseCase) -> Raw:
    """Read every raw file of the use case."""
    rows, *others = (
        read_raw(path, file.sha256)
        for path, file in zip(raw_paths(use_case), _files(use_case.source), strict=True)
    )
    return Raw(rows, dict(zip(use_case.source.more, others, strict=True)))


def raw_paths(use_case: UseCase) -> list[Path]:
    """Find the raw files, the main one first, without importing the package around them."""
    source = use_case.source
    return [_path(source.package, file.file, use_case.folder) for file in _files(source)]


def _files(source: Source) -> list[RawFile]:
    return [RawFile(source.file, source.sha256), *source.more.values()]


def _path(package: str, file: str, folder: Path) -> Path:
    if not package:
        return folder / file
    try:
        return Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError as error:
        raise DataError(f"the package {package} is not installed: run `uv sync --group data`") from error


def read_raw(path: Path, sha256: str) -> pd.DataFrame:
    """Read one raw file by its ending; with `sha256` stated, only if it is the very file that was reviewed.

    Cells of a CSV come as text, an empty one as missing: types are the schema's business.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; [source] file says where the raw data is")
    if sha256 and (found := digest_of(path)) != sha256:
        raise DataError(f"{path}: sha256 is {found}, [source] states {sha256}")
    try:
        return _read(path, reviewed=bool(sha256))
    except (pickle.UnpicklingError, LZMAError, EOFError, OSError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _read(path: Path, *, reviewed: bool) -> pd.DataFrame:
    if path.name.endswith((".csv", ".csv.gz")):
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    if path.suffix == ".parquet":
        return pd.read_parquet(path, dtype_backend="numpy_nullable")
    if path.name.endswith(".pkl.compress") and reviewed:  # a pickle can run code: never an unknown one
        frame: pd.DataFrame = pd.read_pickle(path, compression="xz")
        return frame
    raise DataError(f"{path}: raw data is .csv, .csv.gz or .parquet (or a reviewed .pkl.compress)")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
