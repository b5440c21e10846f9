"""Files that outlive a process: the layout of a run's folder, atomic JSON and weights, versions."""

import ctypes
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import GanaugError
from .sessions import sole, sweep

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

RUN_KEYS = ("class_names", "counts", "source", "strategy", "members")  # what later stages read of run.json
NETWORKS = ("generator", "discriminator")  # the names of a member's files of weights
STATUS = "status.json"  # what a process is doing in a folder of a run or a study, while it does; see progress.py
MAX_RECORD = 2**28  # bytes of a JSON file or a journal
MAX_WEIGHTS = 2**32  # of a file of tensors whose network is not known
MAX_HEADER = 2**20  # of what stands before them, where it is
MAX_STATE = 2**33  # of a training that goes on
SCHEMA = 1  # of run.json and study.json; a newer one is refused with a clear message


@dataclass(frozen=True)
class RunFolder:
    """Where everything of a run lies.

    run.json            class names, counts, strategy, versions; `complete` is true once the training has ended
    recipe.yaml         the resolved settings, which reproduce the run
    check.json          what the check of the data found
    data/               the decoded images and their index (data/cache.py)
    plan.json           while a training with a budget is under way: how many steps it will take (gan/planning.py)
    members/NAME/       generator.safetensors (EMA), discriminator.safetensors, member.json, metrics.csv, state.pt (to resume),
                        told.jsonl (what a process of its own says while it trains: gan/crew.py)
    samples/            a grid of samples at intervals
    tensorboard/NAME/   the same, and the metrics, as TensorBoard events; where they were asked for
    curation/           classifiers of the real images that judge synthetic ones (synthesis/referees.py)
    """

    root: Path

    @property
    def info(self) -> Path:
        return self.root / "run.json"

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def check(self) -> Path:
        return self.root / "check.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def samples(self) -> Path:
        return self.root / "samples"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def curation(self) -> Path:
        return self.root / "curation"

    def member(self, name: str) -> Path:
        return self.root / "members" / name


def open_run(path: str | Path) -> tuple[RunFolder, dict[str, Any]]:
    """The folder and the contents of its run.json. Raises `GanaugError` unless it is a run whose training is complete."""
    folder = RunFolder(Path(path))
    if not folder.info.is_file():
        meant = RunFolder(folder.root / "run")
        how = f"Did you mean {meant.root}?" if meant.info.is_file() else f"Make one with: ganaug fit DATA --out {path}"
        raise GanaugError(f"{path} is not a run: it has no {folder.info.name}. {how}")
    refuse_special(folder.root)
    info = read_json(folder.info)
    if not info.get("complete"):
        raise GanaugError(
            f"the training in {path} is not complete. Go on with: ganaug fit {shlex.quote(str(info.get('source', 'DATA')))} "
            f"--out {shlex.quote(str(path))} --resume"
        )
    require_keys(folder.info, info, RUN_KEYS)
    refuse_paths(folder.info, info["class_names"])
    refuse_paths(folder.info, info["members"])
    numbers = info["counts"].get("train") if isinstance(info["counts"], dict) else None
    if (
        not isinstance(numbers, dict)
        or list(numbers) != info["class_names"]
        or not all(type(number) is int and number >= 0 for number in numbers.values())
    ):
        raise GanaugError(
            f"{folder.info} is damaged: its counts are not those of its classes. Fit again, with another --out."
        )
    return folder, info


def refuse_paths(path: Path, names: Any) -> None:
    """Raises `GanaugError` unless what a file holds is a list of names, each of which can be that of a folder and of no other place."""
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise GanaugError(
            f"{path} is damaged: expected a list of different names, got {str(names)[:60]}. Fit again, with another --out."
        )
    for name in names:
        if name in ("", ".", "..") or {"/", "\0", os.sep} & set(name):
            raise GanaugError(f"{path} is damaged: {name!r} cannot be a folder's name. Fit again, with another --out.")


def refuse_special(folder: Path) -> None:
    """Raises `GanaugError` where anything of a run that later stages read is neither a file nor a folder: who opens a pipe waits until
    somebody writes into it."""
    deeper = (path for place in ("data", "members", "curation") for path in (folder / place).rglob("*"))
    for path in (*folder.glob("*"), *deeper):
        if not path.is_file() and path.exists() and not path.is_dir():
            raise GanaugError(f"{path} is no regular file. Remove it.")


def read_regular(path: Path, most: int) -> bytes:
    """All bytes of a file. Raises `OSError` if it cannot be read, has more than `most` bytes, or is no regular file: others may have no
    end, or no beginning."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # of this one: another may just have taken its place
        if size > most:
            raise OSError(f"it has more than {most:,} bytes")
        return file.read(size)  # of /proc, where all files are of size 0, nothing


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its place only if the block succeeds: whole or not at all, and on the disk
    when the block has ended. An error of the disk names `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):  # of which the first error tells
            temporary.unlink(missing_ok=True)


@contextmanager
def filled_whole(target: Path, progress: str | None = None) -> Iterator[Path]:
    """Yields a new folder beside `target`, new or empty, whose place it takes only if the block succeeds: whole or not at all.

    With `progress` a block that has left a file of this name in the folder, and removes it at its end, may go on with both the next
    time. Raises `GanaugError` where another process fills the same folder, and where a link stands in the new folder's place.
    """
    partial = target.with_name(f".{target.name}.partial")
    if partial.is_symlink():
        raise GanaugError(f"{partial} is a link, which is not followed. Remove it and repeat the command.")
    with sole(target.with_name(f".{target.name}.lock"), partial):
        if progress is None or not (partial / progress).is_file():
            shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
        partial.mkdir(parents=True, exist_ok=True)
        sweep(partial)
        try:
            with naming(target):
                yield partial
                sync_disk(partial)
                if target.exists():
                    target.rmdir()
                partial.rename(target)
                sync_folder(target.parent)
        finally:
            if progress is None or not (partial / progress).is_file():
                shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the disk in the block name `path` where they name no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def is_full(error: OSError) -> bool:
    """Whether the disk, or what the user may use of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sync_folder(folder: Path) -> None:
    """Waits until the names in the folder are on the disk, where the system can tell: a file that was replaced is the old one after a
    loss of power otherwise."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_disk(folder: Path) -> None:
    """Waits until all that was written to the folder's file system is on the disk, where the system can tell: at once, where thousands
    of small files, each on its own, take seconds."""
    if sys.platform == "linux":
        handle = os.open(folder, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(handle):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
        finally:
            os.close(handle)
    elif hasattr(os, "sync"):
        os.sync()


def save_array(path: Path, array: "npt.NDArray[np.generic]") -> None:
    """As `numpy.save`, whole or not at all. Numpy itself says "requested and written" of a full disk."""
    import numpy as np

    whole = np.ascontiguousarray(array)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(memoryview(whole).cast("B") if whole.size else b"")


def write_text(path: Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, keys: Collection[str] = ()) -> dict[str, Any]:
    """The object in the file, with these `keys` at least. Raises `GanaugError` if it is missing, not JSON, incomplete, of a newer
    schema than this program knows, or has a text that could not be written anywhere."""
    try:
        text = read_regular(path, MAX_RECORD).decode()
        value = json.loads(text)
        if re.search(r"\\u[dD]", text):  # half a character, as Python reads it from JSON
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise GanaugError(
            f"{path} is damaged: it has a text that is not valid Unicode. Make it anew, in another --out."
        ) from None
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # of numbers of thousands of digits, and of very deep brackets, too
        raise GanaugError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise GanaugError(f"{path} must hold a JSON object, not a {type(value).__name__}.")
    schema = value.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise GanaugError(f"{path} has schema {schema!r}; this ganaug reads up to {SCHEMA}. Update ganaug.")
    require_keys(path, value, keys)
    return value


def require_keys(path: Path, value: Mapping[str, Any], keys: Collection[str]) -> None:
    """Raises `GanaugError` where the contents of a file lack one of the keys."""
    if lacking := [key for key in keys if key not in value]:
        raise GanaugError(f"{path} is damaged: it lacks {', '.join(lacking)}. Make it anew, in another --out.")


def save_weights(path: Path, module: "torch.nn.Module") -> str:
    """The module's state as safetensors; returns what `checkpoint_of` tells of the file. Restored exactly by `load_weights`."""
    return save_tensors(path, module.state_dict())


def save_tensors(path: Path, tensors: "Mapping[str, torch.Tensor]") -> str:
    from safetensors.torch import save

    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return _digest(content)


def checkpoint_of(path: Path) -> str:
    """What names a file of weights in a manifest: the first 16 hex digits of its SHA-256."""
    try:
        return _digest(read_regular(path, MAX_WEIGHTS))
    except OSError as error:
        raise GanaugError(f"the weights {path} cannot be read: {error}") from None


def num_bytes(module: "torch.nn.Module") -> int:
    """Of the module's state, also of one on the device `meta`, which takes no memory: a file of weights has no fewer."""
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())


def refuse_small(needed: int, *paths: Path) -> None:
    """Raises `GanaugError` where files of weights hold fewer bytes than networks need, whose description may ask for all memory."""
    held = sum(path.stat().st_size for path in paths if path.is_file())
    if held < needed:
        raise GanaugError(
            f"the weights {paths[0]} cannot be loaded: their networks need {needed:,} bytes, and there are {held:,}."
        )


def load_weights(path: Path, module: "torch.nn.Module", checkpoint: str | None = None) -> None:
    """Fills `module` in place. Raises `GanaugError` if the file is missing, damaged, made for another network, or not the one that is
    called `checkpoint`."""
    tensors = load_tensors(path, checkpoint, num_bytes(module) + MAX_HEADER)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise GanaugError(f"the weights {path} cannot be loaded: {str(error).splitlines()[0]}") from None


def load_tensors(path: Path, checkpoint: str | None = None, most: int = MAX_WEIGHTS) -> "dict[str, torch.Tensor]":
    """What was saved, `most` bytes at most. Raises `GanaugError` as `load_weights` does."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_regular(path, most)
        tensors = load(content)
    except (OSError, SafetensorError) as error:
        raise GanaugError(f"the weights {path} cannot be loaded: {str(error).splitlines()[0]}") from None
    if checkpoint is not None and _digest(content) != checkpoint:
        raise GanaugError(
            f"the weights {path} cannot be loaded: the file is not the one that was written there (expected the SHA-256 {checkpoint}..., "
            f"found {_digest(content)}...). Put the right one back."
        )
    return tensors


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def write_sealed(path: Path, content: bytes, owner: str) -> None:
    """Bytes behind a line of JSON with the schema, their length, their SHA-256 and what they belong to."""
    seal = {"schema": SCHEMA, "owner": owner, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with written_whole(path) as temporary:
        temporary.write_bytes(json.dumps(seal).encode() + b"\n" + content)


def read_sealed(path: Path, owner: str) -> bytes:
    """Inverts `write_sealed`. Raises `ValueError` with the reason if the file is truncated, changed, another owner's or of a newer
    schema, `OSError` if it cannot be read."""
    line, _, content = read_regular(path, MAX_STATE).partition(b"\n")
    try:
        seal = json.loads(line)
        schema, size, digest, belongs_to = seal["schema"], seal["bytes"], seal["sha256"], seal["owner"]
    except (ValueError, KeyError, TypeError):
        raise ValueError("it does not begin as a checkpoint of this ganaug does.") from None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ValueError(f"it has schema {schema!r}; this ganaug reads up to {SCHEMA}. Update ganaug.")
    if len(content) != size:
        raise ValueError(f"it is truncated: {len(content)} of {size} bytes.")
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its content has changed since it was written.")
    if belongs_to != owner:
        raise ValueError("it belongs to another training.")
    return content


def describe_versions() -> dict[str, str]:
    """Versions of Python and of every library that shapes a result, and the machine's kind; no import of any of them."""
    import platform
    from importlib import metadata

    libraries = ("ganaug", "torch", "torchvision", "numpy", "scikit-learn", "scipy", "pandas", "pillow")
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in libraries:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def describe_commit(folder: Path) -> str | None:
    """The git commit of the checkout that holds `folder`, with '+' when it has changes; None outside a checkout."""
    import subprocess

    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
