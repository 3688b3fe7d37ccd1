"""The SDK holds the schema of its own configuration against JSON Schema's at each of its calls, 0.2 s every time.

Imported into the warm interpreter, this lets it do so once: programs last half as long, and send the same.
"""

from typing import Any

from jsonschema.validators import validator_for
from sagemaker.config.config_schema import SAGEMAKER_PYTHON_SDK_CONFIG_SCHEMA

validator: Any = validator_for(SAGEMAKER_PYTHON_SDK_CONFIG_SCHEMA)
check = validator.check_schema
checked: dict[int, object] = {}  # by identity; held, so that no other object gets its number


def check_once(schema: Any, *arguments: Any, **options: Any) -> None:
    if id(schema) not in checked:
        check(schema, *arguments, **options)
        checked[id(schema)] = schema


validator.check_schema = check_once
