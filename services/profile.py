"""The example domain: profiles of a community site. Replace this with your own."""

import json
import re

from services.http import Problem, json_bytes

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)  # nginx/lua/profile.lua checks the same
KEY_PREFIX = b"profile/"

# field: (type, longest text or largest number, required)
FIELDS: dict[str, tuple[type, int, bool]] = {
    "name": (str, 100, True),
    "age": (int, 150, False),
    "city": (str, 100, False),
    "about": (str, 4000, False),
    "interests": (list, 50, False),
}
INTEREST_CHARACTERS = 50


def key_of(profile_id: str) -> bytes:
    """The key under which a profile is stored."""
    return KEY_PREFIX + profile_id.encode("ascii")


def checked_id(text: str) -> str:
    """Raises a 400 that names the field."""
    if not ID.fullmatch(text):
        raise Problem(400, "1 to 64 letters, digits, '-' and '_', beginning with a letter or digit", field="id")
    return text


def stored(profile_id: str, body: bytes) -> bytes:
    """The value to store for a PUT's body: a checked profile as the JSON that goes out."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Problem(422, "the body must be an object")
    for name in document:
        if name not in FIELDS and name != "id":
            raise Problem(422, "unknown field", field=name[:100])
    if document.get("id", profile_id) != profile_id:
        raise Problem(422, "differs from the id in the path", field="id")
    profile: dict[str, object] = {"id": profile_id}
    for name, (kind, limit, required) in FIELDS.items():
        if name in document:
            profile[name] = _checked(name, document[name], kind, limit)
        elif required:
            raise Problem(422, "is required", field=name)
    try:
        return json_bytes(profile)
    except UnicodeEncodeError:
        raise Problem(422, "text contains half of a surrogate pair") from None


def _checked(name: str, value: object, kind: type, limit: int) -> object:
    if type(value) is not kind:
        wanted = {str: "a string", int: "an integer", list: "a list of strings"}[kind]
        raise Problem(422, f"must be {wanted}", field=name)
    if kind is int and not 0 <= value <= limit:
        raise Problem(422, f"must be 0 to {limit}", field=name)
    if kind is str and not 1 <= len(value) <= limit:
        raise Problem(422, f"must have 1 to {limit} characters", field=name)
    if kind is list:
        if len(value) > limit:
            raise Problem(422, f"must have at most {limit} items", field=name)
        return [_checked(f"{name}[{i}]", item, str, INTEREST_CHARACTERS) for i, item in enumerate(value)]
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
