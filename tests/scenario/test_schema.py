"""The JSON Schema of scenarios, from which the reference of all keys is made."""

from __future__ import annotations

import json

import pytest

from mecsim.scenario.loading import json_schema

SCHEMA = json.loads(json_schema())
SECTIONS = {"Scenario": SCHEMA} | SCHEMA["$defs"]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_is_described(name: str) -> None:
    assert SECTIONS[name]["description"].endswith(".")
    for key, field in SECTIONS[name]["properties"].items():
        assert field.get("description", "").endswith("."), key


def test_every_key_that_is_not_required_has_a_default() -> None:
    for name, section in SECTIONS.items():
        for key, field in section["properties"].items():
            assert key in section.get("required", ()) or "default" in field or key == "extends", (
                f"{name}.{key}"
            )
