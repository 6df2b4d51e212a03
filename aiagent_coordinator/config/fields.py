"""What fields of the settings are made of: types that read their own text, and how one is described."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr, ValidationInfo

from aiagent_coordinator.config import values
from aiagent_coordinator.permissions import check_rule

#: When a change of a setting counts.
Reload = Literal["live", "next start", "never"]


def setting(
    default: Any,  # noqa: ANN401 - whatever the field holds
    description: str,
    *,
    reload: Reload = "next start",
    **limits: Any,  # noqa: ANN401 - passed on to pydantic
) -> Any:  # noqa: ANN401 - stands as the default of a field of any type
    """Describe one field. `...` as default: the setting is required."""
    return Field(default, description=description, json_schema_extra={"reload": reload}, **limits)


def around(info: ValidationInfo) -> values.Surroundings:
    """What the values of this file may refer to."""
    given = info.context
    if isinstance(given, values.Surroundings):
        return given
    return values.Surroundings({}, Path())


def _duration(value: object) -> float:
    return values.parse_duration(value)


def _positive_duration(value: object) -> float:
    seconds = values.parse_duration(value)
    if seconds <= 0:
        raise values.BadValueError("must be longer than 0")
    return seconds


def _positive_size(value: object) -> int:
    size = values.parse_size(value)
    if size <= 0:
        raise values.BadValueError("must be more than 0")
    return size


def _text(value: object, info: ValidationInfo) -> str:
    return values.parse_text(value, around(info).environment)


def _path(value: object, info: ValidationInfo) -> Path:
    return values.parse_path(value, around(info))


def _program(value: object, info: ValidationInfo) -> str:
    text = values.parse_command(_text(value, info))
    return str(values.parse_path(text, around(info))) if "/" in text or text[0] == "~" else text


def _secret(value: object, info: ValidationInfo) -> SecretStr:
    # the value itself never stands in a message
    text = _text(value, info) if isinstance(value, str) else ""
    if not text.strip():
        raise values.BadValueError("must be text in quotes, and not empty")
    return SecretStr(text)


def _timezone(value: object) -> str:
    if not isinstance(value, str):
        raise values.BadValueError(f"expected a name like Asia/Tokyo, got {values.describe(value)}")
    try:
        if value != "UTC":  # known also where the system has no database
            ZoneInfo(value)
    except (KeyError, OSError, ValueError):  # unknown, a folder of the database, or with `..`
        reason = f"there is no time zone {value[:60]!r}; names look like UTC or Asia/Tokyo"
        raise values.BadValueError(reason) from None
    return value


def _rule(value: object) -> str:
    if not isinstance(value, str):
        raise values.BadValueError(f"expected a rule, got {values.describe(value)}")
    try:
        return check_rule(value)
    except ValueError as error:
        raise values.BadValueError(str(error)) from None


#: What an agent's program may do, like `Bash(git status*)`.
Rule = Annotated[str, PlainValidator(_rule)]
#: Seconds; in the file a number or a number with a unit.
Duration = Annotated[float, PlainValidator(_duration)]
PositiveDuration = Annotated[float, PlainValidator(_positive_duration)]
#: Bytes; in the file a whole number or a number with a unit.
Size = Annotated[int, PlainValidator(values.parse_size)]
PositiveSize = Annotated[int, PlainValidator(_positive_size)]
#: Text in which `${VAR}` is expanded.
Expanded = Annotated[str, PlainValidator(_text)]
FilePath = Annotated[Path, PlainValidator(_path)]
Program = Annotated[str, PlainValidator(_program)]
Argv = Annotated[tuple[str, ...], PlainValidator(values.parse_argv)]
Secret = Annotated[SecretStr, PlainValidator(_secret)]
#: A name of the IANA time zone database.
TimeZone = Annotated[str, PlainValidator(_timezone)]


class Model(BaseModel):
    """A frozen group of settings that refuses what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )
