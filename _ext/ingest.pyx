"""Reads pushed JSON: from the bytes of a request to one packed row batch, without a Python object per row.

`sources/http` calls it. It neither knows topics nor creates them: names that its table lacks are handed back.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport cython
cimport ingest_rows
cimport json_scan

from litejoin.errors import BadRowError

# A body of this size takes longer to scan (about 1 GB/s) than handing the GIL over and back takes.
cdef Py_ssize_t RELEASE_GIL_BYTES = 16 * 1024

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

cdef dict ROW_REASONS = {
    ingest_rows.LJ_ROW_EMPTY_BODY: "the body is empty",
    ingest_rows.LJ_ROW_BODY_TYPE: "the body must be a row object or an array of them",
    ingest_rows.LJ_ROW_TRAILING: "data after the end of the JSON value",
    ingest_rows.LJ_ROW_SEPARATOR: "data after the object on its line",
    ingest_rows.LJ_ROW_TOO_MANY: "more than {max_rows} rows in one request",
    ingest_rows.LJ_ROW_NOT_OBJECT: "a row must be a JSON object",
    ingest_rows.LJ_ROW_UNKNOWN_FIELD: "unknown field {field}",
    ingest_rows.LJ_ROW_DUPLICATE_FIELD: "field {field} appears twice",
    ingest_rows.LJ_ROW_NO_TOPIC: 'field "topic" is missing',
    ingest_rows.LJ_ROW_TOPIC_TYPE: "topic must be a string",
    ingest_rows.LJ_ROW_TOPIC_NAME: "topic is not a valid name",
    ingest_rows.LJ_ROW_NO_KEY: 'field "key" is missing',
    ingest_rows.LJ_ROW_KEY_TYPE: "key must be a string",
    ingest_rows.LJ_ROW_KEY_EMPTY: "key is empty",
    ingest_rows.LJ_ROW_KEY_LONG: "key is longer than {max_key_bytes} bytes",
    ingest_rows.LJ_ROW_KEY_NUL: "key contains a NUL character",
    ingest_rows.LJ_ROW_NO_PAYLOAD: 'field "payload" is missing',
    ingest_rows.LJ_ROW_TIMESTAMP_TYPE: "timestamp must be Unix seconds or an RFC 3339 string",
    ingest_rows.LJ_ROW_TIMESTAMP_TEXT: "timestamp is not RFC 3339 with an offset",
    ingest_rows.LJ_ROW_TIMESTAMP_RANGE: "timestamp is outside the years 1 to 9999",
    ingest_rows.LJ_ROW_TOO_LARGE: "key and payload are larger than {max_row_bytes} bytes",
}

cdef dict HINTS = {
    ingest_rows.LJ_ROW_TRAILING: "for several objects send an array, or Content-Type: application/x-ndjson",
    ingest_rows.LJ_ROW_TOO_MANY: "send several requests",
    ingest_rows.LJ_ROW_UNKNOWN_FIELD: "a row has topic, key, payload and optionally timestamp",
    ingest_rows.LJ_ROW_TOPIC_NAME: "letters, digits, _ . and -, at most 128, starting with a letter or _",
    ingest_rows.LJ_ROW_NO_PAYLOAD: "send null to delete the key",
    ingest_rows.LJ_ROW_PAYLOAD_JSON: "a payload that is a string holds JSON text; other JSON values need no string",
}

cdef tuple BODY_FAULTS = (
    ingest_rows.LJ_ROW_EMPTY_BODY, ingest_rows.LJ_ROW_BODY_TYPE, ingest_rows.LJ_ROW_TRAILING,
)


@cython.final
cdef class RowScanner:
    """Turns request bodies into row batches for the topics it was told of. One event loop uses it.

    Limits: rows of a request, nesting of a payload, bytes of a key, bytes of key and payload as stored.
    """

    cdef ingest_rows.lj_topics topics
    cdef ingest_rows.lj_row_limits limits
    cdef int scans_running

    def __cinit__(self, *, uint32_t max_rows, uint32_t max_depth, size_t max_key_bytes, size_t max_row_bytes):
        self.limits.max_rows = max_rows
        self.limits.max_depth = max_depth
        self.limits.max_key_bytes = max_key_bytes
        self.limits.max_row_bytes = max_row_bytes

    def __dealloc__(self):
        free(self.topics.slots)

    def add_topic(self, str name not None, int number):
        """Rows of topic `name` are packed with this catalogue number from now on.

        Raises ValueError for what is no topic name or number, RuntimeError while a scan runs elsewhere.
        """
        raw = name.encode("utf-8", "surrogatepass")
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(raw)
        if not ingest_rows.lj_topic_name_ok(at, <size_t>len(raw)):
            raise ValueError(f"not a topic name: {name!r}")
        if not 0 <= number <= 0xFFFF:
            raise ValueError(f"not a topic number: {number}")
        if self.scans_running:
            raise RuntimeError("a scan is running")
        if not ingest_rows.lj_topics_put(&self.topics, at, <size_t>len(raw), <unsigned short>number):
            raise MemoryError()

    def scan(self, bytes body not None, int64_t now_ms, bint lines=False):
        """(row batch, rows, unknown topics as name -> first row, or None). Never blocks.

        `lines`: the body is NDJSON. With unknown topics the batch is b"": add them and scan again.
        Raises BadRowError for the first fault; large bodies are scanned without the GIL.
        """
        cdef ingest_rows.lj_ingest state
        cdef ingest_rows.lj_row_code code
        cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
        memset(&state, 0, sizeof(state))
        state.topics = &self.topics
        state.limits = self.limits
        state.now_ms = now_ms
        state.out_capacity = <size_t>(size + ingest_rows.LJ_ROW_GROWTH * (size // ingest_rows.LJ_ROW_SHORTEST + 1))
        state.out = <uint8_t *>malloc(state.out_capacity)
        if state.out == NULL:
            raise MemoryError()
        try:
            json_scan.lj_json_begin(&state.json, <const uint8_t *>PyBytes_AS_STRING(body), <size_t>size)
            if size < RELEASE_GIL_BYTES:
                code = ingest_rows.lj_ingest_body(&state, lines)
            else:
                self.scans_running += 1
                with nogil:
                    code = ingest_rows.lj_ingest_body(&state, lines)
                self.scans_running -= 1
            if code != ingest_rows.LJ_ROW_OK:
                raise fault(&state, code, body)
            if state.unknown.used:
                return b"", state.rows, unknown_names(&state)
            return PyBytes_FromStringAndSize(<char *>state.out, <Py_ssize_t>state.out_size), state.rows, None
        finally:
            free(state.unknown.bytes)
            free(state.out)


cdef dict unknown_names(ingest_rows.lj_ingest *state):
    cdef size_t at = 0
    cdef uint32_t row
    names = {}
    while at < state.unknown.used:
        memcpy(&row, state.unknown.bytes + at + 1, 4)
        name = (<char *>state.unknown.bytes)[at + 5 : at + 5 + state.unknown.bytes[at]].decode("ascii")
        names.setdefault(name, row)
        at += 5 + state.unknown.bytes[at]
    return names


cdef object fault(ingest_rows.lj_ingest *state, ingest_rows.lj_row_code code, bytes body):
    """The error for a refused body: row, reason, byte."""
    if code == ingest_rows.LJ_ROW_NO_MEMORY:
        return MemoryError()
    offset = state.json.error_at - state.json.begin
    if code == ingest_rows.LJ_ROW_JSON:
        reason = f"{json_reason(state.json_code, body[offset : offset + 1])} at byte {offset}"
    elif code == ingest_rows.LJ_ROW_PAYLOAD_JSON:
        reason = (
            f"payload is a string, but its text is not JSON: {JSON_REASONS[state.json_code]} "
            f"at byte {state.inner} of the text, string at byte {offset}"
        )
    else:
        text = ROW_REASONS[code].format(
            field=field_name(state), max_rows=state.limits.max_rows,
            max_key_bytes=state.limits.max_key_bytes, max_row_bytes=state.limits.max_row_bytes,
        )
        reason = f"{text}, at byte {offset}"
    row = None if code in BODY_FAULTS else state.rows
    prefix = "" if row is None else f"row {row}: "
    return BadRowError(prefix + reason, row=row, hint=HINTS.get(code, ""))


cdef str json_reason(json_scan.lj_json_code code, bytes found):
    """The reason, with the character where one was found that cannot stand there."""
    if code != json_scan.LJ_JSON_CHAR or len(found) == 0:
        return JSON_REASONS[code]
    if 0x20 < found[0] < 0x7F:
        return f"{JSON_REASONS[code]} {chr(found[0])!r}"
    return f"{JSON_REASONS[code]} 0x{found[0]:02X}"


cdef str field_name(ingest_rows.lj_ingest *state):
    """The name of the member at fault, escaped and cut so that it can be logged."""
    cdef size_t shown = state.field.size if state.field.size < 64 else 64
    if state.field.start == NULL:
        return ""
    return ascii((<char *>state.field.start)[: shown].decode("utf-8", "replace"))


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
