"""Training options of learners: pydantic models, and how users see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)


class TrainingSettings(BaseModel):
    """Base of a learner's training options.

    Every option has a type, a default and, as a string below it, its meaning. Instances are frozen.

    Examples:
        >>> class MySettings(TrainingSettings):
        ...     learning_rate: float = 1e-3
        >>> MySettings(learning_rate=0.5).learning_rate
        0.5
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    episode_slots: Annotated[int, Field(ge=0)] = 0
    """Slots of an episode of training or evaluation; 0: as many as the scenario has. Rewards are
    reported for as many slots as the scenario has."""

    features: str = ""
    """Features of your own that observations have in addition: ``path/file.py:Class``, a subclass
    of ``mecsim.CustomFeatures``."""

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out features that are not there: hashes are those of before they existed."""
        document: dict[str, Any] = handler(self)
        if not self.features:
            document.pop("features", None)
        return document

    def without_effect(self) -> dict[str, str]:
        """Return the options that have no effect, each with the option that makes it so.

        Examples:
            >>> TrainingSettings().without_effect()
            {}
        """
        return {}


def describe_settings(settings: TrainingSettings) -> list[dict[str, str]]:
    """Describe training options for ``mecsim train --settings``.

    Args:
        settings: The training options of a learner, with the values to show as defaults.

    Returns:
        A row an option: its ``name``, ``allowed`` values, ``default`` and ``meaning``.
    """
    schemas = settings.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "allowed": _allowed(schemas[name]),
            "default": str(getattr(settings, name)) or "none",
            "meaning": " ".join((field.description or "").replace("``", "").split()),
        }
        for name, field in type(settings).model_fields.items()
    ]


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return in words which values the JSON Schema of a plain value allows."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.keys() >= {"minimum", "maximum"}:
        bounds = [f"{schema['minimum']:g} to {schema['maximum']:g}"]
    else:
        texts = {
            "minimum": "{:g} or more",
            "exclusiveMinimum": "above {:g}",
            "maximum": "{:g} or less",
            "exclusiveMaximum": "below {:g}",
        }
        bounds = [text.format(schema[key]) for key, text in texts.items() if key in schema]
    return ", ".join([str(schema.get("type", "")), *bounds])
