"""Texts in strangers' archives: XML as it declares its encoding, lists of names, JSON, YAML."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import yaml
from defusedxml import DefusedXmlException, ElementTree

from services.worker.datasets.archives.encodings import best_encoding

MOST_XML_BYTES = 32 * 2**20
MOST_YAML_BYTES = 2**20
_DEPTH = 100
# Bytes of a text that tell its encoding.
_SAMPLE = 1 << 16
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARATION = re.compile(
    r"""^\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["'][^>]{0,200}\?>"""
)
# Declared by their small sets' names, written by programs with the larger ones.
_LARGER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
# Names that XML declares and Python does not know.
_ALIASES = {"windows-31j": "cp932", "x-sjis": "cp932", "x-gbk": "gbk", "x-euc-jp": "euc_jp"}
_ENCODINGS = re.compile(
    r"(utf-(8|8-sig|16|16-le|16-be|32|32-le|32-be)|ascii|iso8859-\d+|cp\d+|gb2312|gbk|gb18030|"
    r"big5|big5hkscs|shift_jis|shift_jisx0213|euc_jp|euc_kr|johab|koi8-[rut]|mac-\w+|iso2022_\w+)"
)


def read_text(data: bytes) -> str:
    """Decode a text without a declaration: by its mark, or as it reads best."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode(best_encoding(data[:_SAMPLE].splitlines()), "replace")


def lines_of(data: bytes) -> Iterator[str]:
    """Yield the lines of a text that are not empty, stripped."""
    for line in read_text(data).splitlines():
        if stripped := line.strip():
            yield stripped


def read_xml(data: bytes) -> Element:
    """Parse XML in the encoding that it declares; raises ``ValueError``.

    Entities are never expanded. One that declares nothing, or UTF-8 wrongly, is decoded as it reads
    best.
    """
    if len(data) > MOST_XML_BYTES:
        raise ValueError(f"it has more than {MOST_XML_BYTES} bytes")
    try:
        root = ElementTree.fromstring(_decoded_xml(data).lstrip())
    except (
        ElementTree.ParseError,
        DefusedXmlException,
        ValueError,
        LookupError,
        RecursionError,
    ) as error:
        raise ValueError("it is not well-formed XML") from error
    if root is None:
        raise ValueError("it is not well-formed XML")
    return root


def _decoded_xml(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding)
    if data[:4] == b"<\0?\0":
        return data.decode("utf-16-le")
    if data[:4] == b"\0<\0?":
        return data.decode("utf-16-be")
    declared = _DECLARATION.match(data[:400].decode("latin-1"))
    stated = declared[1].lower() if declared else "utf-8"
    encoding = codecs.lookup(_ALIASES.get(stated, stated)).name
    if not _ENCODINGS.fullmatch(encoding):
        raise LookupError(encoding)
    if encoding.startswith(("utf-16", "utf-32")):  # whoever reads this declaration knows better
        encoding = "utf-8"
    try:
        return data.decode(_LARGER.get(encoding, encoding))
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise
        return data.decode(best_encoding(data[:_SAMPLE].splitlines()))


def read_json(data: bytes) -> Any:
    """Parse JSON; raises ``ValueError``."""
    try:
        return json.loads(read_text(data))
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not well-formed JSON") from error


def read_yaml(data: bytes) -> Any:
    """Parse YAML, each scalar as a string; raises ``ValueError``.

    Aliases are refused: a few lines of them can stand for billions of values.
    """
    if len(data) > MOST_YAML_BYTES:
        raise ValueError(f"it has more than {MOST_YAML_BYTES} bytes")
    text = read_text(data)
    try:
        _check_events(text)
        # Strings only: a class may be called "no", which YAML 1.1 takes for false.
        return yaml.load(text, Loader=yaml.CBaseLoader)  # noqa: S506 - makes no objects
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("it is not well-formed YAML") from error


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CBaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH:
            raise ValueError("it is nested too deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses aliases")  # noqa: TRY004 - the text's fault, not a type's
