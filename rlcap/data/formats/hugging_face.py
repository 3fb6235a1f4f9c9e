"""Rows from a folder that `save_to_disk` of the library `datasets` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rlcap.data.formats.images import store_image
from rlcap.data.formats.rows import Row, find_missing_columns, row_from_mapping
from rlcap.errors import DataError


def is_saved_data_set(folder: Path) -> bool:
    """Return whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote the folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json"))


def read_saved_data_set(source: Path, names: Mapping[str, str], split: str | None, cache: Path) -> Iterator[Row]:
    """Yield the rows of a data set, or of one split of it.

    Args:
        source: The folder.
        names: Our name of each column → its name in the data set.
        split: The split; None where the data set was saved without splits.
        cache: The folder for images that the data set stores as bytes.

    Raises:
        DataError: The folder can't be read, or it lacks the split or a column.
    """
    import datasets

    try:
        data = datasets.load_from_disk(str(source))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{source} is not a folder that save_to_disk of the library `datasets` wrote ({error})"
        ) from error
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise DataError(
                f"{source} has the splits {', '.join(data)} but data.split is {split!r}; choose one of them, for "
                f"instance data.split={next(iter(data), 'NAME')}"
            )
        data = data[split]
    elif split is not None:
        raise DataError(f"data.split is {split!r}, but {source} was saved without splits; remove data.split")
    for name, column in find_missing_columns(data.column_names, names).items():
        raise DataError(
            f"{source} has no column {column!r}, only {', '.join(data.column_names)}; name the right column with "
            f"data.columns.{name}=NAME"
        )
    for name, feature in data.features.items():
        if isinstance(feature, datasets.Image):
            # decoding every row would be 20 times slower (pitfalls 34)
            data = data.cast_column(name, datasets.Image(decode=False))
    for number, record in enumerate(data):
        image = record[names["image"]]
        if isinstance(image, Mapping):
            record = {**record, names["image"]: store_image(image, cache)}
        yield row_from_mapping(f"row {number}", record, names, source)
