"""The example domain: profiles of a community site. Replace this with your own."""

import re

from services.fields import Fields, checked, object_of
from services.http import Problem, json_bytes

ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"  # nginx/lua/profile.lua checks the same
ID = re.compile(ID_PATTERN, re.ASCII)
KEY_PREFIX = b"profile/"

FIELDS: Fields = {
    "name": (str, 100, True),
    "age": (int, 150, False),
    "city": (str, 100, False),
    "about": (str, 4000, False),
    "interests": (list, 50, False),
}


def key_of(profile_id: str) -> bytes:
    """The key under which a profile is stored."""
    return KEY_PREFIX + profile_id.encode("ascii")


def checked_id(text: str, field: str = "id", status: int = 400) -> str:
    """Raises a problem that names the field."""
    if not ID.fullmatch(text):
        detail = "1 to 64 letters, digits, '-' and '_', beginning with a letter or digit"
        raise Problem(status, detail, field=field)
    return text


def stored(profile_id: str, body: bytes) -> bytes:
    """The value to store for a PUT's body: a checked profile as the JSON that goes out."""
    document = object_of(body)
    if document.pop("id", profile_id) != profile_id:
        raise Problem(422, "differs from the id in the path", field="id")
    return json_bytes({"id": profile_id} | checked(document, FIELDS))
