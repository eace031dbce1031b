"""Regular expressions of JSON Schema's string formats.

Each describes a part of its format that the RFC allows and that validators agree about: a date exists in its
year, a label of a host name has no two hyphens in a row.
"""

from __future__ import annotations

from typing import Final

_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    rf"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_LABEL = r"[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,2}"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_GROUP = r"[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    [
        rf"(?:{_GROUP}:){{7}}{_GROUP}",
        rf"::(?:{_GROUP}(?::{_GROUP}){{0,6}})?",
        rf"(?:{_GROUP}:){{1,7}}:",
        *(rf"(?:{_GROUP}:){{1,{7 - after}}}(?::{_GROUP}){{1,{after}}}" for after in range(1, 7)),
    ]
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}"
_DURATION_TIME = r"T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DURATION_DATE = r"(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_AUTHORITY = rf"//(?:{_HOST}|{_IPV4})(?::[0-9]{{1,5}})?"
_ATOM_OF_REGEX = (
    r"(?:[A-Za-z0-9 _,:;@#%&=/<>-]|\\[dwsDWS.*+?()\[\]{}|^$/]|\."
    r"|\[\^?(?:[A-Za-z0-9_ ]|a-z|A-Z|0-9|\\[dws])+\])"
)
_TIMES = r"(?:[*+?]|\{[1-9][0-9]?\})?"
_ATOMS = rf"(?:{_ATOM_OF_REGEX}{_TIMES})+"
_REGEX = rf"\^?(?:{_ATOM_OF_REGEX}{_TIMES}|\((?:\?:)?{_ATOMS}(?:\|{_ATOMS})*\)[*+?]?)+\$?"
_POINTER = r"(?:/(?:[^~/]|~[01])*)*"


def _locator(letters: str, *, relative: bool) -> str:
    """A URI, or an IRI that has more letters; or a reference, which may leave out what its base has."""
    char = rf"(?:[{letters}0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{{2}})"
    tail = rf"(?:\?(?:{char}|[/?])*)?(?:#(?:{char}|[/?])*)?"
    whole = rf"[A-Za-z][A-Za-z0-9+.-]*:(?:{_AUTHORITY}(?:/{char}*)*|/?{char}+(?:/{char}*)*){tail}"
    return rf"(?:{whole}|(?:{_AUTHORITY})?(?:/{char}+)+/?{tail}|#{char}*)" if relative else whole


STRING_FORMATS: Final = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": rf"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|[0-9]+W)",
    "email": rf"{_ATOM}(?:\.{_ATOM}){{0,2}}@{_HOST}",
    "idn-email": rf"[\p{{L}}0-9]{{1,20}}(?:\.[\p{{L}}0-9]{{1,20}}){{0,2}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": rf"(?:{_IPV6})",
    "uuid": r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}",
    "uri": _locator("A-Za-z", relative=False),
    "iri": _locator(r"\p{L}", relative=False),
    "iri-reference": _locator(r"\p{L}", relative=True),
    "uri-reference": _locator("A-Za-z", relative=True),
    "json-pointer": _POINTER,
    "regex": _REGEX,
    "relative-json-pointer": rf"(?:0|[1-9][0-9]{{0,5}})(?:#|{_POINTER})",
}
"""Name of a format -> pattern in the library's dialect, without anchors."""
