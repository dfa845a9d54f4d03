"""Reads pushed JSON: from the bytes of a request to packed rows, without a Python object per row."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

cimport json_scan

JSON_REASONS = {
    json_scan.LJ_JSON_END: "the JSON ends too early",
    json_scan.LJ_JSON_CHAR: "unexpected character",
    json_scan.LJ_JSON_CONTROL: "raw control character in a string",
    json_scan.LJ_JSON_ESCAPE: "invalid escape in a string",
    json_scan.LJ_JSON_SURROGATE: "lone surrogate in a string",
    json_scan.LJ_JSON_UTF8: "invalid UTF-8",
    json_scan.LJ_JSON_NUMBER: "invalid number",
    json_scan.LJ_JSON_DEPTH: "nested too deeply",
    json_scan.LJ_JSON_TRAILING: "data after the end of the value",
}


def check_json(bytes text not None, unsigned int max_depth=64):
    """None when `text` is one valid JSON value, else (code of JSON_REASONS, byte offset)."""
    cdef json_scan.lj_json scan
    cdef json_scan.lj_json_code code
    json_scan.lj_json_begin(&scan, <const uint8_t *>PyBytes_AS_STRING(text), <size_t>len(text))
    with nogil:
        code = json_scan.lj_json_document(&scan, max_depth)
    if code == json_scan.LJ_JSON_OK:
        return None
    return code, scan.error_at - scan.begin


def unescape(bytes literal not None):
    """The UTF-8 text of a JSON string literal with its quotes. Raises ValueError when it is not one."""
    cdef json_scan.lj_json scan
    cdef json_scan.lj_json_text text
    cdef size_t size
    json_scan.lj_json_begin(&scan, <const uint8_t *>PyBytes_AS_STRING(literal), <size_t>len(literal))
    if len(literal) == 0 or literal[0] != 34:
        raise ValueError("not a JSON string")
    code = json_scan.lj_json_string(&scan, &text)
    if code != json_scan.LJ_JSON_OK or scan.at != scan.end:
        raise ValueError("not a JSON string")
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>text.size)
    size = json_scan.lj_json_unescape(&text, <uint8_t *>PyBytes_AS_STRING(out))
    return out[:size]
