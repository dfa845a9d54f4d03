# Declarations of rowsum.h.
cdef extern from "rowsum.h" nogil:
    unsigned int LJ_NO_EXTRA
    unsigned long long lj_row_hash(
        unsigned int kind, unsigned int table, long long timestamp_ms,
        const void *key, unsigned int key_len, const void *payload, unsigned int payload_len,
        const void *extra, unsigned int extra_len)
    long long lj_row_seal(unsigned long long hash, unsigned int op)
    long long lj_row_checksum(
        unsigned int kind, unsigned int table, unsigned int op, long long timestamp_ms,
        const void *key, unsigned int key_len, const void *payload, unsigned int payload_len,
        const void *extra, unsigned int extra_len)
