"""The client encodings of PostgreSQL (manual, "Character Set Support") by the names of Python's codecs."""

from typing import Final

__all__ = ["codec_of", "to_utf8"]

# UTF8 and SQL_ASCII are missing on purpose: their bytes are used as they are. MULE_INTERNAL, EUC_TW and
# WIN1258 variants that Python does not have are read byte by byte, too.
_CODECS: Final = {
    "LATIN1": "latin-1",
    "LATIN2": "iso8859-2",
    "LATIN3": "iso8859-3",
    "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "ISO88591": "latin-1",
    "ISO88595": "iso8859-5",
    "ISO88596": "iso8859-6",
    "ISO88597": "iso8859-7",
    "ISO88598": "iso8859-8",
    "WIN866": "cp866",
    "WIN874": "cp874",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "WIN1253": "cp1253",
    "WIN1254": "cp1254",
    "WIN1255": "cp1255",
    "WIN1256": "cp1256",
    "WIN1257": "cp1257",
    "WIN1258": "cp1258",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "SJIS": "cp932",  # the table that the server converts with
    "SHIFTJIS2004": "shift_jis_2004",
    "EUCJP": "euc_jp",
    "EUCJIS2004": "euc_jis_2004",
    "EUCCN": "gb2312",
    "EUCKR": "euc_kr",
    "BIG5": "cp950",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "UHC": "cp949",
    "JOHAB": "johab",
}


# What Python makes of single bytes that Shift JIS does not have.
_NOT_SJIS: Final = ("\x80", "\xa0", "\uf8f0", "\uf8f1", "\uf8f2", "\uf8f3")


def codec_of(encoding: bytes) -> str | None:
    """The codec for a value of client_encoding; None if its bytes are to be taken as UTF-8."""
    # The server compares names without case and punctuation, too.
    name = "".join(c for c in encoding.decode("ascii", "replace").upper() if c.isalnum())
    return _CODECS.get(name)


def to_utf8(raw: bytes, codec: str) -> bytes:
    """`raw` in UTF-8; as it is if it is not valid in `codec`."""
    if raw.isascii():
        return raw  # as in the server; some codecs read the backslash as a currency sign
    try:
        text = raw.decode(codec)
    except (UnicodeError, LookupError):
        return raw
    if codec == "cp932":
        for c in _NOT_SJIS:
            if c in text:
                return raw
    elif codec == "shift_jis_2004":
        text = text.replace("\u00a5", "\\").replace("\u203e", "~")
    return text.encode()
