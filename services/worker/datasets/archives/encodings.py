"""In which encoding a program wrote names that it did not declare."""

from collections.abc import Callable, Iterable
from itertools import islice

# Tried in this order; the last one decodes everything.
CANDIDATES = ("utf-8", "cp932", "gbk", "cp437")
# How well a character reads that such a file name rarely holds.
_RARE = -0.3
# Names that tell the encoding of all.
_SAMPLE = 5000
_PRIVATE = range(0xE000, 0xF900)


def best_encoding(names: Iterable[bytes]) -> str:
    """Return the encoding in which most of the names can be decoded and, of those, read best.

    UTF-8 wins where it decodes as many names as any other: text in another encoding is hardly ever
    valid UTF-8. Between the others, characters that are common in names count for an encoding and
    rare ones against it.
    """
    foreign = set(islice((name for name in names if not name.isascii()), _SAMPLE))
    if not foreign:
        return "utf-8"
    decoded = {
        encoding: [text for name in foreign if (text := decoded_or_none(name, encoding))]
        for encoding in CANDIDATES
    }
    most = max(len(texts) for texts in decoded.values())
    if len(decoded["utf-8"]) > len(foreign) / 2:
        return "utf-8"
    # cp437 decodes whatever there is: another may miss a few names that were written elsewhere.
    able = [name for name in CANDIDATES[1:] if len(decoded[name]) >= 0.8 * most]
    return max(able, key=lambda name: _readability(decoded[name], name))


def decoded_or_none(data: bytes, encoding: str) -> str | None:
    """Decode strictly; ``None`` where that fails."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def decode_name(data: bytes, encoding: str) -> str:
    """Decode a name as most of its archive reads best, or else as itself reads best."""
    text = decoded_or_none(data, encoding)
    return text if text is not None else data.decode(best_encoding([data]))


def _readability(texts: Iterable[str], encoding: str) -> float:
    score = _SCORES[encoding]
    values = []
    for text in texts:
        for place, letter in enumerate(text):
            if letter.isascii():
                continue
            value = score(letter)
            if encoding != "cp437" and _stands_alone(text, place):
                # One character of Chinese or Japanese within a Latin word: an umlaut misread.
                value = min(value, _RARE)
            values.append(value)
    return sum(values) / max(1, len(values))


def _stands_alone(text: str, place: int) -> bool:
    around = (text[place - 1 : place], text[place + 1 : place + 2])
    return all(letter.isascii() for letter in around) and any(letter.isalpha() for letter in around)


def _japanese(letter: str) -> float:
    code = ord(letter)
    if 0x3041 <= code <= 0x30FE:  # hiragana and katakana
        return 1.0
    if 0xFF61 <= code <= 0xFF9F:  # half-width katakana: what single bytes of other encodings become
        return _RARE
    if 0x4E00 <= code <= 0x9FFF:
        return 0.8 if letter.encode("cp932")[0] < 0x98 else 0.2  # JIS level 1 is the common one
    if code in _PRIVATE:
        return -1.0
    return 0.4 if 0x3000 <= code <= 0x303F or 0xFF01 <= code <= 0xFF5E else _RARE


def _chinese(letter: str) -> float:
    code = ord(letter)
    if 0x4E00 <= code <= 0x9FFF:
        lead, trail = letter.encode("gbk")
        if trail < 0xA1 or lead < 0xB0:  # the extension: characters that are hardly ever written
            return _RARE
        return 0.9 if lead < 0xD8 else 0.3  # GB 2312 level 1 is the common one
    if 0x3041 <= code <= 0x30FE:
        return 0.2
    if code in _PRIVATE:
        return -1.0
    return 0.4 if 0x3000 <= code <= 0x303F or 0xFF01 <= code <= 0xFF5E else _RARE


def _latin(letter: str) -> float:
    code = ord(letter)
    # Of cp437: accented letters; its Greek, mathematics and boxes are no part of names.
    return 0.6 if 0xC0 <= code <= 0xFF or letter in "ªº¡¿" else _RARE


_SCORES: dict[str, Callable[[str], float]] = {
    "cp932": _japanese,
    "gbk": _chinese,
    "cp437": _latin,
}
