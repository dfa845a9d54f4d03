/* What went wrong with a JSON text beyond what the scanner reports, and the words for all of it. */
#ifndef LJ_JSON_FAULT_H
#define LJ_JSON_FAULT_H
#include "json_scan.h"

/* Continue the codes of lj_json_code; 0 is success everywhere. */
enum {
    LJ_FAULT_MEMORY = 100, /* malloc said no */
    LJ_FAULT_SIZE,         /* one record with more values than LJ_RECORD_VALUES */
    LJ_FAULT_PATH,         /* the response path leads nowhere */
    LJ_FAULT_SHAPE,        /* the response path leads to something that is no array and no object */
    LJ_FAULT_BODY,         /* more than 4 GiB */
    LJ_FAULT_RECORD        /* one record larger than the store takes (LJ_MAX_VALUE of rows.h) */
};

/* Values (members, elements) of one record. A tree node takes 64 bytes, so comparing two records takes at
 * most 128 MB; real records have tens of values. */
#define LJ_RECORD_VALUES 1000000u

static inline const char *lj_fault_text(int code) {
    switch (code) {
    case LJ_JSON_END: return "the JSON ends too early";
    case LJ_JSON_CHAR: return "unexpected character";
    case LJ_JSON_CONTROL: return "raw control character in a string";
    case LJ_JSON_ESCAPE: return "invalid escape in a string";
    case LJ_JSON_SURROGATE: return "lone surrogate in a string";
    case LJ_JSON_UTF8: return "invalid UTF-8";
    case LJ_JSON_NUMBER: return "invalid number";
    case LJ_JSON_DEPTH: return "nested too deeply";
    case LJ_JSON_TRAILING: return "data after the end of the value";
    case LJ_FAULT_SIZE: return "a record with more than 1,000,000 values";
    case LJ_FAULT_PATH: return "nothing at the response path";
    case LJ_FAULT_SHAPE: return "neither an array nor an object at the response path";
    case LJ_FAULT_RECORD: return "a record larger than 64 MiB";
    case LJ_FAULT_BODY: return "more than 4 GiB";
    default: return "out of memory";
    }
}
#endif
