"""Named tensors in safetensors files, which hold no code and are read lazily."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.engine.files import fsync_file
from training.errors import DataError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a file and flush it; tied tensors are written out each, as the format wants."""
    seen: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        address = own.untyped_storage().data_ptr()
        if address in seen:
            own = own.clone()
        seen.add(address)
        plain[name] = own
    save_file(plain, path)
    fsync_file(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, on the CPU.

    Raises:
        DataError: The file is no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> None:
    """Check that a file holds exactly the expected names, shapes and types.

    Raises:
        DataError: Names the tensors and the file.
    """
    faults = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    faults += [f"{name} is not in the model" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(found.keys() & expected.keys()):
        have, want = found[name], expected[name]
        if have.shape != want.shape:
            faults.append(f"{name} has shape {tuple(have.shape)}, the model's has {tuple(want.shape)}")
        elif have.dtype != want.dtype:
            faults.append(f"{name} is {have.dtype}, the model's is {want.dtype}")
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise DataError(
            f"{file} does not fit the model: {'; '.join(faults[:3])}{more}. "
            "Use the configuration that wrote it"
        )
