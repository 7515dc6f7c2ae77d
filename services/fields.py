"""Strict checks of the JSON objects that clients send: whatever is wrong is refused by the field's name."""

import json
from collections.abc import Mapping

from services.http import Problem

Fields = Mapping[str, tuple[type, int, bool]]  # name: (type, longest text or list or largest number, required)
ITEM_CHARACTERS = 50  # of a text in a list
BODY = "body"  # the field that is named where the document as a whole is wrong
_KINDS = {str: "a string", int: "an integer", list: "a list of strings"}


def object_of(body: bytes) -> dict:
    """The JSON object that a body holds; raises a 400 or 422 that names the field."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_without_twins)
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 at byte {error.start}", field=BODY) from None
    except RecursionError:
        raise Problem(400, "the body is nested too deeply", field=BODY) from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}", field=BODY) from None
    if not isinstance(document, dict):
        raise Problem(422, "the body must be an object", field=BODY)
    return document


def checked(document: Mapping[str, object], fields: Fields) -> dict[str, object]:
    """What `document` has of `fields`, in their order; raises a 422 that names the field."""
    for name in document:
        if name not in fields:
            raise Problem(422, "unknown field", field=name)
    found: dict[str, object] = {}
    for name, (kind, limit, required) in fields.items():
        if name in document:
            found[name] = _checked(name, document[name], kind, limit)
        elif required:
            raise Problem(422, "is required", field=name)
    return found


def _checked(name: str, value: object, kind: type, limit: int) -> object:
    if type(value) is not kind:
        raise Problem(422, f"must be {_KINDS[kind]}", field=name)
    if kind is int and not 0 <= value <= limit:
        raise Problem(422, f"must be 0 to {limit}", field=name)
    if kind is str:
        if not 1 <= len(value) <= limit:
            raise Problem(422, f"must have 1 to {limit} characters", field=name)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise Problem(422, "holds half of a surrogate pair", field=name)
    if kind is list:
        if len(value) > limit:
            raise Problem(422, f"must have at most {limit} items", field=name)
        return [_checked(f"{name}[{i}]", item, str, ITEM_CHARACTERS) for i, item in enumerate(value)]
    return value


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise Problem(422, "appears twice", field=next(name for name in names if names.count(name) > 1))
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
