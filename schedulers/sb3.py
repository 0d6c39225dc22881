"""Policies of Stable-Baselines3, read from the files that its ``model.save`` writes.

Such a file is a zip archive. Its ``data`` is JSON that holds pickles with a readable text next to
each; the texts are read and the pickles are not. Its ``policy.pth`` holds the parameters, which
PyTorch reads without running anything.
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import numpy as np

from mecsim import Observation, Placement, Scheduler, SchedulerSpec
from mecsim.learning import UNTRAINED, PolicyError, SchedulerError
from mecsim.scheduler import AddedFeatures, feature_names

try:
    import torch
    from torch import Tensor, nn
    from torch.distributions import Categorical
    from torch.nn.functional import linear
except ModuleNotFoundError as error:
    raise SchedulerError(
        "scheduler 'sb3': needs PyTorch. Try: pip install 'mecsim[torch]'"
    ) from error

_log = logging.getLogger("mecsim.schedulers.sb3")

MAX_BYTES: Final = 1 << 28
"""Limit of the uncompressed size of each part of a file."""
MODULE: Final = "stable_baselines3.common.policies"
ACTIVATIONS: Final = {
    f"<class '{each.__module__}.{each.__qualname__}'>": each
    for each in (
        *(nn.Tanh, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
        *(nn.Mish, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Identity),
    )
}
"""Activation functions by their text in a file."""
WITHOUT_EFFECT: Final = frozenset(
    {
        *(":type:", ":serialized:", "net_arch", "activation_fn", "ortho_init", "log_std_init"),
        *("full_std", "use_expln", "share_features_extractor", "normalize_images"),
        *("optimizer_class", "optimizer_kwargs"),
    }
)
"""Keys of ``policy_kwargs`` that are read or that do not change decisions."""
_PARAMETER: Final = re.compile(
    r"(mlp_extractor\.(policy|value)_net\.\d+|action_net|value_net)\.(weight|bias)"
)

State: TypeAlias = dict[str, Tensor]


class SB3(Scheduler):
    """A PPO or A2C policy of Stable-Baselines3, trained in mecsim's Gymnasium environment.

    Decides as ``model.predict(observation, deterministic=True)``. Stable-Baselines3 need not be
    installed.

    Args:
        spec: The part of the scenario that schedulers know.
        policy: The file that ``model.save`` wrote, of a model with ``MlpPolicy``; ``untrained``
            for random parameters.
        features: The custom features of the training, ``path/file.py:Class``. The file of the
            policy does not name them: only their number is checked.

    Raises:
        PolicyError: If the file cannot be read, holds another kind of policy, or does not fit the
            scenario.
    """

    conformance_options: ClassVar[Mapping[str, Any]] = {"policy": UNTRAINED}

    def __init__(self, spec: SchedulerSpec, *, policy: str, features: str = "") -> None:
        super().__init__(spec)
        self._custom = AddedFeatures(features, spec) if features else None
        inputs = len(feature_names(spec)) + (len(self._custom.names) if self._custom else 0)
        trained = policy != UNTRAINED
        self._network = _read(Path(policy), spec, inputs) if trained else _untrained(spec, inputs)

    def decide(self, observation: Observation) -> Placement:
        """Return the most probable place of each block that the class of the tasks has."""
        x = observation.scaled_features()
        if self._custom is not None:
            x = np.append(x, self._custom.one(observation)).astype(np.float32)
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(x[None]))
            # As MultiCategorical does, bit for bit: probabilities may be equal where logits differ.
            blocks = torch.split(logits, self.spec.servers + 1, dim=1)
            return [
                int(Categorical(logits=block).probs.argmax())
                for block in blocks[: observation.spec.blocks]
            ]


class _Network(NamedTuple):
    """A multilayer perceptron: weights and biases of its layers."""

    layers: list[tuple[Tensor, Tensor]]
    activation: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits of all places of all blocks; shape (1, M·(N + 1))."""
        *hidden, last = self.layers
        for weight, bias in hidden:
            x = self.activation(linear(x, weight, bias))
        return linear(x, *last)


def _untrained(spec: SchedulerSpec, inputs: int) -> _Network:
    """Return a network of the default size with random parameters, always the same ones."""
    rng = np.random.default_rng(0)
    widths = [inputs, 64, 64, spec.most_blocks * (spec.servers + 1)]
    weights = [rng.normal(0.0, i**-0.5, (o, i)) for i, o in pairwise(widths)]
    layers = [(torch.tensor(w, dtype=torch.float32), torch.zeros(len(w))) for w in weights]
    return _Network(layers, nn.Tanh())


def _read(path: Path, spec: SchedulerSpec, inputs: int) -> _Network:
    """Return the network of a file. Raises ``PolicyError``."""
    try:
        data, state = _contents(path)
        activation = _activation(data)
        _check_actions(data, spec)
        network = _Network(_layers(state, spec, inputs), activation)
    except PolicyError as error:
        raise PolicyError(f"policy {path}: {error}") from error
    if data.get("_last_original_obs") is not None:
        _log.warning(
            "policy %s was trained with VecNormalize, whose statistics are not applied here. "
            "Train with norm_obs=False",
            path,
        )
    return network


# ---------------------------------------------------------------- the file


def _contents(path: Path) -> tuple[dict[str, Any], State]:
    """Return the JSON and the parameters of a file; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(_part(archive, "data"))
            parameters = _part(archive, "policy.pth")
        with zipfile.ZipFile(BytesIO(parameters)) as archive:
            _check_size("policy.pth", sum(each.file_size for each in archive.infolist()))
        state = torch.load(BytesIO(parameters), map_location="cpu", weights_only=True)
    except PolicyError:
        raise
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive raises errors of many kinds
        cause = str(error).partition("\n")[0].rstrip(".")
        raise PolicyError(f"is not a file of Stable-Baselines3's model.save: {cause}") from error
    if not isinstance(data, dict):
        raise PolicyError("data: is not a JSON object")
    return data, _checked_state(state)


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise PolicyError(f"is not a file of Stable-Baselines3's model.save: has no part {name!r}")
    _check_size(name, archive.getinfo(name).file_size)
    return archive.read(name)


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise PolicyError(f"{name}: has {size:,} bytes; allowed: at most {MAX_BYTES:,}")


def _checked_state(state: object) -> State:
    """Return parameters that are finite tensors of an MlpPolicy, and not too large."""
    if not isinstance(state, dict):
        raise PolicyError("policy.pth: holds no parameters by name")
    for name, value in state.items():
        if not (isinstance(name, str) and _PARAMETER.fullmatch(name)):
            raise PolicyError(f"has parameters {name!r}; allowed: those of MlpPolicy")
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            raise PolicyError(f"{name}: is no tensor with values")
        _check_size(name, 4 * value.numel())  # a view may be larger than the file
        if value.dtype != torch.float32 or not bool(value.isfinite().all()):
            raise PolicyError(f"{name}: has other values than finite 32-bit floats")
    return state


# ---------------------------------------------------------------- what it holds


def _activation(data: Mapping[str, Any]) -> nn.Module:
    """Return the activation function of a policy that this module can rebuild."""
    module, made = (_text(data, "policy_class", key) for key in ("__module__", "__init__"))
    if module != MODULE or not made.startswith("<function ActorCriticPolicy."):
        kind = made.removeprefix("<function ").partition(".")[0] or "not named"
        raise PolicyError(
            f"its policy is {kind} of {module or '?'}. Expected: MlpPolicy of PPO or A2C"
        )
    options = data.get("policy_kwargs")
    if not isinstance(options, dict):
        raise PolicyError("policy_kwargs: is not a JSON object")
    if unknown := sorted(options.keys() - WITHOUT_EFFECT):
        raise PolicyError(f"policy_kwargs: has {unknown[0]}; allowed: net_arch, activation_fn")
    text = str(options.get("activation_fn", next(iter(ACTIVATIONS))))
    if text not in ACTIVATIONS:
        allowed = ", ".join(each.__name__ for each in ACTIVATIONS.values())
        raise PolicyError(f"activation_fn: {text}; allowed: torch.nn's {allowed}")
    return ACTIVATIONS[text]()


def _check_actions(data: Mapping[str, Any], spec: SchedulerSpec) -> None:
    """Raise ``PolicyError`` for another action space than that of the scenario."""
    nvec = _text(data, "action_space", "nvec")
    shifted = re.search("[1-9]", _text(data, "action_space", "start"))
    found = [int(each) for each in re.findall(r"\d+", nvec)]
    if shifted or not found or found != [spec.servers + 1] * spec.most_blocks:
        raise PolicyError(
            f"its action_space is {nvec or 'not MultiDiscrete'}. Expected: {spec.servers + 1} "
            f"places for each of {spec.most_blocks} blocks (edge_servers: {spec.servers})"
        )


def _text(data: Mapping[str, Any], *keys: str) -> str:
    """Return a readable text of the JSON; empty if there is none."""
    found: object = data
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _layers(state: State, spec: SchedulerSpec, inputs: int) -> list[tuple[Tensor, Tensor]]:
    """Return the layers of the actor, from observations to logits."""
    of_actor = [name for name in state if "value_net" not in name]
    count = sum("policy_net" in name for name in of_actor) // 2
    names = [f"mlp_extractor.policy_net.{2 * i}" for i in range(count)] + ["action_net"]
    wanted = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if wanted != set(of_actor):
        odd = min(wanted.symmetric_difference(of_actor))
        raise PolicyError(f"policy.pth: {odd} is {'missing' if odd in wanted else 'unexpected'}")
    layers = [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]
    width = layers[0][0].shape[-1:]
    if width != (inputs,):
        raise PolicyError(
            f"takes observations of {' × '.join(map(str, width))} numbers. Expected: {inputs} "
            f"(blocks: {spec.most_blocks}, edge_servers: {spec.servers}, {spec.decision_epoch})"
        )
    for name, (weight, bias) in zip(names, layers, strict=True):
        units = len(bias) if bias.ndim == 1 else 0
        if weight.shape != (units, inputs):
            raise PolicyError(f"policy.pth: the shapes of {name} do not fit together")
        inputs = units
    if inputs != (outputs := spec.most_blocks * (spec.servers + 1)):
        raise PolicyError(f"policy.pth: action_net has {inputs} outputs. Expected: {outputs}")
    return layers
