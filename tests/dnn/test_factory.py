"""Factories of modules: of installed modules, of files, with arguments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from mecsim.dnn.factory import load_factory
from mecsim.errors import ProfileError

FACTORIES = """
from torch import nn
answer = 42
def net(): return nn.Linear(8, 8)
def wrong(): return "a module"
def fails(): raise RuntimeError("no weights\\nat all")
def greedy(width): return nn.Linear(width, 8)
def leaves(): raise SystemExit(3)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "factories_of_a_user.py").write_text(FACTORIES)
    (tmp_path / "broken_module_of_a_user.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "factories_of_a_user", raising=False)


@pytest.mark.usefixtures("factories")
def test_load_factory() -> None:
    assert isinstance(load_factory("factories_of_a_user:net"), nn.Linear)


def test_load_factory_of_a_file_with_arguments(tmp_path: Path) -> None:
    """The file may import its siblings, as a scheduler's may."""
    (tmp_path / "widths_of_a_user.py").write_text("NARROW = 3\n", encoding="utf-8")
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nfrom widths_of_a_user import NARROW\n"
        "def net(width, bias=True): return nn.Linear(width, NARROW, bias=bias)\n",
        encoding="utf-8",
    )
    module = load_factory(f"{tmp_path / 'nets.py'}:net", {"width": 5, "bias": False})
    assert isinstance(module, nn.Linear)
    assert (module.in_features, module.out_features) == (5, 3)
    assert [*dict(module.named_parameters())] == ["weight"]
    with pytest.raises(ProfileError, match=r"calling it with width=5, wide=1 fails: TypeError"):
        load_factory(f"{tmp_path / 'nets.py'}:net", {"width": 5, "wide": 1})
    with pytest.raises(ProfileError, match=r"there is no file .*none\.py"):
        load_factory(f"{tmp_path / 'none.py'}:net")


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("factories_of_a_user", "names no factory; write package.module:factory"),
        (":net", "names no factory"),
        ("no_such_module_of_a_user:net", "fails: ModuleNotFoundError: No module named"),
        ("broken_module_of_a_user:net", "fails: ZeroDivisionError: division by zero"),
        ("factories_of_a_user:nett", "has no attribute 'nett'"),
        ("factories_of_a_user:answer", "is a int, not something to call"),
        ("factories_of_a_user:wrong", "returns a str, not a torch.nn.Module"),
        ("factories_of_a_user:fails", "fails: RuntimeError: no weights$"),
        ("factories_of_a_user:leaves", "fails: SystemExit: 3$"),
        ("factories_of_a_user:greedy", "missing 1 required positional argument: 'width'"),
    ],
)
def test_load_factory_invalid(spec: str, message: str) -> None:
    with pytest.raises(ProfileError, match=f"^'{spec}'.*{message}"):
        load_factory(spec)
