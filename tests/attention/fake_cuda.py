"""What a forward pass on a card would wait for and send, seen on tensors that have shapes and no numbers."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

CARD = torch.device("cuda", 0)
_ASKS = {"item", "tolist", "numpy", "cpu", "nonzero", "unique", "masked_select", "argwhere"}
_ASKS |= {"__int__", "__float__", "__bool__", "__index__", "__complex__", "__contains__", "equal", "allclose"}
_MAKES = {"tensor", "as_tensor", "asarray"}
_INDEXES = {"__getitem__", "__setitem__"}


@dataclasses.dataclass(frozen=True)
class Found:
    """A wait for the device ("sync") or a copy to it ("upload")."""

    kind: str
    call: str
    where: str


class HostSync(Exception):
    """A value of the device was asked for, which a fake tensor does not have."""


class DeviceWatch(TorchFunctionMode):
    """Notes every sync and upload of the calls inside; to be entered within `card()`.

    Sizes that depend on values are made up (a ninth of the elements); a value that is asked for raises
    HostSync. Nothing is noted while `watching` is False.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.watching = fake, True
        self.found: list[Found] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name, first = getattr(func, "__name__", str(func)), args[0] if args else None
        if name in _MAKES and not isinstance(first, Tensor) and _on_card(_named_device(kwargs.values())):
            self._note("upload", name)
            kwargs["device"] = "cpu"
            return self.fake.from_tensor(func(*args, **kwargs)).to(CARD)
        if isinstance(first, Tensor) and name in ("to", "cuda", "as_tensor", "asarray", "type_as"):
            return self._moved(func, name, args, kwargs)
        if name == "copy_" and args[1].is_cuda != args[0].is_cuda and args[1].numel():
            self._note("upload" if args[0].is_cuda else "sync", name)
        elif isinstance(first, Tensor) and first.is_cuda:
            if name in _ASKS:
                return self._asked(name, first, kwargs)
            if name in _INDEXES:
                return self._indexed(func, name, args)
            if name == "repeat_interleave" and isinstance(args[1], Tensor):
                self._note("sync", name)
                raise HostSync(f"{name} at {_where()}")
        return func(*args, **kwargs)

    def _moved(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        source = args[0]
        goal = CARD if name == "cuda" else _named_device((*args[1:], *kwargs.values()))
        if source.is_cuda and goal is not None and goal.type == "cpu":
            self._note("sync", name)
        if source.device.type != "cpu" or not _on_card(goal):
            return func(*args, **kwargs)
        if source.numel():
            self._note("upload", name)
        fake = source if isinstance(source, FakeTensor) else self.fake.from_tensor(source)
        types = [x for x in (*args[1:], *kwargs.values()) if isinstance(x, torch.dtype)]
        return fake.to(CARD, *types)

    def _asked(self, name: str, first: Tensor, kwargs: Mapping[str, Any]) -> Any:
        self._note("sync", name)
        if name == "cpu":
            return first.to("cpu")
        if name == "nonzero":
            rows = first.new_empty(max(1, first.numel() // 9), first.ndim, dtype=torch.long)
            return tuple(rows.unbind(1)) if kwargs.get("as_tuple") else rows
        raise HostSync(f"{name} at {_where()}")

    def _indexed(self, func: Any, name: str, args: tuple[Any, ...]) -> Any:
        first, given = args[0], args[1] if isinstance(args[1], tuple) else (args[1],)
        index = [i for i in given if isinstance(i, Tensor)]
        if any(i.device.type == "cpu" and i.ndim for i in index) or any(isinstance(i, list) for i in given):
            self._note("upload", name)
        if name == "__setitem__" and isinstance(args[2], Tensor) and not args[2].is_cuda and args[2].ndim:
            self._note("upload", name)
        if any(i.dtype in (torch.bool, torch.uint8) for i in index):
            self._note("sync", name)
            if name != "__getitem__" or len(given) > 1:
                raise HostSync(f"{name} by a mask at {_where()}")
            return first.new_empty(max(1, index[0].numel() // 9), *first.shape[index[0].ndim :])
        return func(*args)

    def _note(self, kind: str, call: str) -> None:
        if self.watching:
            self.found.append(Found(kind, call, _where()))


def _on_card(device: torch.device | None) -> bool:
    return device is not None and device.type == "cuda"


@contextlib.contextmanager
def card() -> Iterator[FakeTensorMode]:
    """Inside, tensors on `CARD` can be made and computed with on any machine; they hold no numbers."""
    with _device_guard(), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        yield fake


@contextlib.contextmanager
def _device_guard() -> Iterator[None]:
    """PyTorch built for CPUs lacks what makes a CUDA device current; that of meta tensors does nothing."""
    if torch.version.cuda is not None:
        yield
        return
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 15).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    cuda, meta = 1, 14  # c10::DeviceType
    guards[cuda] = guards[meta]
    try:
        yield
    finally:
        guards[cuda] = None


def _named_device(values: Iterable[Any]) -> torch.device | None:
    """The device that a call names."""
    for value in values:
        if isinstance(value, Tensor):
            return value.device
        if isinstance(value, torch.device):
            return value
        if isinstance(value, str) and value.split(":")[0] in ("cuda", "cpu"):
            return torch.device(value)
    return None


def _where() -> str:
    """File and line of the library (or else of a test) that called."""
    frames = [f for f in traceback.extract_stack() if Path(f.filename).name != Path(__file__).name]
    ours = [f for f in frames if "/manyview/" in f.filename] or [f for f in frames if "/tests/" in f.filename]
    return f"{ours[-1].filename.rpartition('/manyview/')[2]}:{ours[-1].lineno}" if ours else "?"
