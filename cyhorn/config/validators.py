"""The kinds of value a setting can have.

A conversion takes what a config file, the embedding application or the command
line gave (text, in the last case) and returns what the server uses. It raises
TypeError, ValueError or `Refused`; `cyhorn.config.config` adds the setting's
name, the value and where it came from. Nothing here reads the environment.

What only some settings need, and only when they are set, is imported where it is used:
a start goes through all of this.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MethodType
from typing import Any

from cyhorn.config.row import Kind, Refused
from cyhorn.errors import ConfigError

# -- numbers --------------------------------------------------------------------------


def pos_int(value: Any) -> int:
    """A whole number from 0 on; text in any base that Python writes; True is 1."""
    number = value.__index__() if hasattr(value, "__index__") else int(value.strip(), 0)
    if number < 0:
        raise ValueError(number)
    return int(number)


def counting_int(value: Any) -> int:
    """A whole number from 1 on."""
    number = pos_int(value)
    if number < 1:
        raise ValueError(number)
    return number


def decimal_text(text: str) -> Any:
    """A flag's number: "010" is ten there; other texts are left to the kind."""
    try:
        return int(text, 10)
    except ValueError:
        return text


def mode(value: Any) -> int:
    """A file mode or mask up to 0o777; text with a leading zero is octal, as in a shell."""
    if isinstance(value, str):
        text = value.strip()
        value = "0o" + text[1:] if re.fullmatch(r"0\d+", text) else text
    number = pos_int(value)
    if number > 0o777:
        raise Refused(f"it is {number:#o}, more than 0o777")
    return number


def seconds(value: Any) -> int | float:
    """A duration in seconds, 0 or more; fractions are taken."""
    if isinstance(value, str):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    if not 0 <= value < float("inf"):
        raise ValueError(value)
    return int(value) if value == int(value) else value


_SIZE = re.compile(r"\s*(\d+)\s*(?:([kmg])(?:i?b)?|b)?\s*", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def size(value: Any) -> int:
    """A number of bytes; text may end in K, M or G (powers of 1024)."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        return int(found[1]) << _UNITS[(found[2] or "").lower()]
    if isinstance(value, bool):
        raise TypeError(value)
    return pos_int(value)


def between(low: int, high: int) -> Kind:
    """A whole number within bounds, both included."""

    def convert(value: Any) -> int:
        number = pos_int(value)
        if not low <= number <= high:
            raise ValueError(number)
        return number

    return Kind(f"a whole number from {low} to {high}", convert, decimal_text)


# -- text, lists and maps -----------------------------------------------------------------


def boolean(value: Any) -> bool | None:
    """True or False, or these words; None is "not set"."""
    if value is None or isinstance(value, bool):
        return value
    return {"true": True, "false": False}[value.strip().lower()]


def string(value: Any) -> str | None:
    """Text, stripped; None is "not set"."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(value)
    return value.strip()


def path(value: Any) -> str | None:
    """A file name: text or an os.PathLike of text."""
    return string(os.fspath(value) if isinstance(value, os.PathLike) else value)


def list_string(value: Any) -> list[str]:
    """A list of texts; one text is a list of one."""
    if not value:
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise TypeError(value)
    texts = []
    for item in value:
        if not isinstance(item, str):
            raise Refused(f"{item!r} is not a text")
        texts.append(item.strip())
    return texts


def comma_list(value: Any) -> list[str]:
    """Texts separated by commas, or a list of texts."""
    parts = value.split(",") if isinstance(value, str) else list_string(value)
    return [part.strip() for part in parts if part.strip()]


def pairs(value: Any) -> list[str]:
    """Texts of the form KEY=VALUE."""
    texts = list_string(value)
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise Refused(f"{text!r} has no KEY=")
    return texts


def addresses(value: Any) -> list[str]:
    """IP addresses and networks, kept as text; "*" is everybody. Host bits must be clear."""
    parts = comma_list(value)
    for part in parts:
        if part == "*":
            continue
        try:
            ipaddress.ip_network(part)
        except ValueError as cause:
            raise Refused(str(cause)) from None
    return parts


def dictionary(value: Any) -> dict[Any, Any]:
    """A mapping, copied."""
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return dict(value)


def string_map(value: Any) -> dict[str, str]:
    """A mapping of texts to texts."""
    mapping = dictionary(value)
    if not all(isinstance(item, str) for pair in mapping.items() for item in pair):
        raise TypeError(value)
    return mapping


def field_value(value: Any) -> str | None:
    """Text that can be sent as a field's value: visible characters and spaces."""
    text = string(value)
    if text is not None and not all(" " <= character <= "~" for character in text):
        raise ValueError(value)
    return text


def choice(*words: str) -> Kind:
    """One of `words`, in any case; None is the first word."""

    def convert(value: Any) -> str:
        word = words[0] if value is None else value.strip().lower()
        if word not in words:
            raise ValueError(value)
        return str(word)

    return Kind("one of " + ", ".join(words), convert, choices=words)


def words(*known: str) -> Kind:
    """Some of `known`, separated by commas, each once; none at all is the first."""

    def convert(value: Any) -> list[str]:
        chosen = [word.lower() for word in comma_list(value)] or [known[0]]
        if len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
            raise ValueError(value)
        return chosen

    return Kind(f"one or more of {', '.join(known)}, separated by commas", convert)


def proxy_protocol(value: Any) -> str:
    """off, v1, v2 or auto; booleans, and the words Gunicorn takes for them."""
    if value is None or isinstance(value, bool):
        return "auto" if value else "off"
    word = value.strip().lower()
    word = {"false": "off", "0": "off", "none": "off", "true": "auto", "1": "auto"}.get(word, word)
    if word not in ("off", "v1", "v2", "auto"):
        raise ValueError(value)
    return str(word)


def http2_cleartext(value: Any) -> str:
    """Gunicorn's modes of cleartext HTTP/2; True is prior-knowledge."""
    if value is None or isinstance(value, bool):
        return "prior-knowledge" if value else "off"
    word = value.strip().lower()
    if word not in ("off", "prior-knowledge", "upgrade", "both"):
        raise ValueError(value)
    return str(word)


# -- texts of environment variables --------------------------------------------------------


def switch_text(text: str) -> Any:
    """A switch's variable: 1, yes, y and on are true, 0, no, n and off false; others are left alone."""
    word = text.strip().lower()
    if word in ("1", "yes", "y", "on"):
        return True
    return False if word in ("0", "no", "n", "off") else word


def words_of_shell(text: str) -> list[str]:
    """A list's variable: words as in a shell, quoted where they hold spaces."""
    import shlex

    try:
        return shlex.split(text)
    except ValueError as cause:
        raise Refused(str(cause)) from None


def json_text(text: str) -> Any:
    """A map's variable: a JSON object."""
    import json

    try:
        return json.loads(text)
    except ValueError as cause:
        raise Refused(f"it is not JSON: {cause}") from None


# -- what the machine must know ---------------------------------------------------------------


def working_directory() -> str:
    """The current directory by the name the shell has for it, so that a link stays a link."""
    current = os.getcwd()
    named = os.environ.get("PWD")
    try:
        if named and os.path.samefile(named, current):
            return named
    except OSError:
        pass
    return current


def directory(value: Any) -> str:
    """An existing directory, as an absolute path; None is the current one."""
    start = working_directory()
    found = os.path.normpath(os.path.join(start, path(value) or ""))
    if not os.path.isdir(found):
        raise Refused("there is no such directory" if not os.path.exists(found) else "not a directory")
    return found


_GLOB = re.compile(r"[*?[]")


def is_pattern(text: str) -> bool:
    """Whether `text` is a glob pattern rather than the name of one file."""
    return bool(_GLOB.search(text))


def files_or_patterns(value: Any) -> list[str]:
    """Existing files, and glob patterns, which are left as they are."""
    entries = list_string(value)
    for entry in entries:
        if not is_pattern(entry) and not os.path.exists(entry):
            raise Refused(f"there is no file {entry!r}")
    return entries


def _user_or_group_number(number: int) -> int:
    """What the system can hold; its greatest number stands for "leave it"."""
    if not 0 <= number < 2**32 - 1:
        raise ValueError(number)
    return number


def user(value: Any) -> int:
    """A uid: a number, a number as text, or a name; None is the effective user."""
    if value is None:
        return os.geteuid()
    if isinstance(value, int) or value.strip().isdigit():
        return _user_or_group_number(int(value))
    import pwd

    try:
        return pwd.getpwnam(value.strip()).pw_uid
    except KeyError:
        raise Refused("there is no such user") from None


def group(value: Any) -> int:
    """A gid: a number, a number as text, or a name; None is the effective group."""
    if value is None:
        return os.getegid()
    if isinstance(value, int) or value.strip().isdigit():
        return _user_or_group_number(int(value))
    import grp

    try:
        return grp.getgrnam(value.strip()).gr_gid
    except KeyError:
        raise Refused("there is no such group") from None


def statsd_address(value: Any) -> Any:
    """(host, port), or the path of a unix socket; the port is 8125 unless given."""
    text = string(value)
    if not text:
        return None
    # "unix:8125" has always been a host of that name.
    if found := re.fullmatch(r"unix:(\d+)", text):
        return ("unix", int(found[1]))
    from cyhorn.net.addresses import parse_address

    try:
        address = parse_address(text, default_port=8125)
    except ConfigError as cause:
        raise Refused(str(cause).removeprefix("bind: ")) from None
    if isinstance(address, int):
        raise ValueError(value)
    return address


# -- classes and hooks -------------------------------------------------------------------------


def a_class(value: Any) -> Any:
    """A class, the name of one, or a function that returns either."""
    if isinstance(value, FunctionType | MethodType):
        try:
            value = value()
        except Exception as cause:
            raise Refused(f"the function raised {cause!r}") from cause
    return value if isinstance(value, type) else string(value)


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether `function` can be called with `count` positional arguments."""
    import inspect

    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature: it must be believed
        return True
    return True


def imported(value: Any) -> Any:
    """What a text "module:object" or "module.object" names; anything else is itself."""
    if not isinstance(value, str):
        return value
    module, dot, name = value.strip().rpartition(":" if ":" in value else ".")
    if not dot or not all(part.isidentifier() for part in [*module.split("."), name]):
        raise Refused("a text must be MODULE:FUNCTION or MODULE.FUNCTION")
    try:
        found = importlib.import_module(module)
    except Exception as cause:
        raise Refused(f"module {module!r} does not import: {cause!r}") from cause
    if not hasattr(found, name):
        raise Refused(f"module {module!r} has no {name!r}")
    return getattr(found, name)


def hook(*parameters: str) -> Kind:
    """A callable with these positional parameters, or its name as a text; None is "not set"."""

    def convert(value: Any) -> Any:
        if value is None:
            return None
        function = imported(value)
        if not callable(function):
            raise TypeError(value)
        if not takes(function, len(parameters)):
            raise Refused("it takes other parameters")
        return function

    return Kind(f"a function of ({', '.join(parameters)})", convert)


def post_request(value: Any) -> Any:
    """A callable of two to four parameters; the result always takes four."""
    if value is None:
        return None
    function = imported(value)
    if not callable(function):
        raise TypeError(value)
    if takes(function, 4):
        return function
    if takes(function, 3):
        return lambda worker, req, environ, resp: function(worker, req, environ)
    if takes(function, 2):
        return lambda worker, req, environ, resp: function(worker, req)
    raise Refused("it takes other parameters")


# -- the kinds ------------------------------------------------------------------------------------

POS_INT = Kind("a whole number, 0 or more", pos_int, decimal_text)
COUNT = Kind("a whole number, 1 or more", counting_int, decimal_text)
MODE = Kind("a mode such as 0o022", mode)
SECONDS = Kind("a number of seconds, 0 or more", seconds)
SIZE = Kind("a number of bytes, 0 or more, such as 65536, 64K, 1M or 1G", size)
BOOL = Kind("True or False", boolean, read_variable=switch_text)
STRING = Kind("a text", string)
PATH = Kind("a file name", path)
LIST = Kind("a list of texts", list_string, read_variable=words_of_shell)
COMMA_LIST = Kind("texts separated by commas", comma_list, keeps_empty=True)
PAIRS = Kind("texts of the form KEY=VALUE", pairs, read_variable=words_of_shell)
ADDRESSES = Kind("IP addresses or networks separated by commas, or *", addresses, keeps_empty=True)
DICT = Kind("a dict", dictionary, read_variable=json_text)
STRING_MAP = Kind("a dict of texts to texts", string_map, read_variable=json_text)
FIELD_VALUE = Kind("a text of visible ASCII characters and spaces", field_value, keeps_empty=True)
PROXY_PROTOCOL = Kind("one of off, v1, v2, auto", proxy_protocol, choices=("off", "v1", "v2", "auto"))
HTTP2_CLEARTEXT = Kind(
    "one of off, prior-knowledge, upgrade, both",
    http2_cleartext,
    choices=("off", "prior-knowledge", "upgrade", "both"),
)
DIRECTORY = Kind("an existing directory", directory)
FILES = Kind("existing files or glob patterns", files_or_patterns, read_variable=words_of_shell)
USER = Kind("a user's name or number", user)
GROUP = Kind("a group's name or number", group)
STATSD = Kind("HOST, HOST:PORT or unix://PATH", statsd_address)
CLASS = Kind("a class, or its name as a text", a_class)
POST_REQUEST = Kind(
    "a function of (worker, req), (worker, req, environ) or (worker, req, environ, resp)", post_request
)
ANY = Kind("any value", lambda value: value)
