/* json.h: what the shim must know of JSON and msgpack.
 *
 * Arguments come in as JSON text or msgpack and are checked here, before they reach the ring: a command that cannot be read is refused
 * where its author is looking. Responses are msgpack in the segment and leave as JSON text. Everything works on memory handed in, bounded
 * by its length, without allocation, recursion beyond JSON_MAX_DEPTH, dependence on the locale or system calls; any bytes give a defined
 * result.
 *
 * The memory must not change meanwhile: copy out of shared memory first. A text or data of 0 bytes may be NULL, out-pointers may not.
 * A sentence is a fragment without capital and full stop ("not valid UTF-8"), to be put into a message that names the offset.
 */
#ifndef IBLB_JSON_H
#define IBLB_JSON_H

#include <stddef.h>
#include <stdint.h>

#define JSON_MAX_DEPTH 64 /* arrays and maps inside one another */

/* Offset of the first byte that is not valid UTF-8 (RFC 3629: no surrogates, no overlong forms), or `bytes` if all is well. */
size_t utf8_check(const char *text, size_t bytes);

/* One JSON value (RFC 8259), white space around it allowed. 0, or a static sentence saying what is wrong, with its offset in *where (else
 * *where is where reading ended). Refuses lone surrogate escapes (\ud800), which no msgpack or UTF-8 text can carry. Numbers are checked
 * for their form, not their size: 1e999 and integers of a thousand digits pass. So do duplicate keys. */
const char *json_check(const char *text, size_t bytes, size_t *where);

/* The first msgpack object in `bytes`: its length in *used. 0, or a sentence, *where and *used 0. Accepts only what JSON can say: nil,
 * bool, int, finite float, valid UTF-8 str, array, map with str keys; no bin, ext, NaN or infinity. Never reads past `bytes`. */
const char *msgpack_check(const unsigned char *data, size_t bytes, size_t *used, size_t *where);

/* Is this one object of what most arguments are: arrays of up to 15, inside one another if need be, of ASCII texts of up to 255 bytes and
 * integers of 0 to 127? If so, msgpack_check finds nothing wrong with it; if not, it tells. */
int msgpack_is_simple(const unsigned char *data, size_t bytes);

/* The first msgpack object as ASCII JSON without white space: \uXXXX for everything above 0x7e and for controls; floats in as few of 15 to
 * 17 digits as read back the same, always with a point or exponent; NaN and infinity as null; bin as a base64 string; ext as null; map keys
 * that are neither str nor bin as the string of their JSON; duplicate keys stay. Writes at most `capacity` bytes, NUL included, and always
 * NUL-terminates when capacity > 0 (an empty string if it does not fit or is not well formed); `text` may be NULL when capacity is 0.
 * *needed: bytes that the whole text takes, NUL included. 0 if the object is well formed (whether or not it fitted: compare *needed with
 * capacity), else a sentence and *needed 0. Not well formed are also a str that is not UTF-8, an array or map as a key, and trailing data.
 */
const char *msgpack_to_json(const unsigned char *data, size_t bytes, char *text, size_t capacity, size_t *needed);

/* The str value of the first `key` in the map that `data` begins with: its bytes, valid UTF-8, in *text and *length (pointing into data,
 * not NUL-terminated). 1 if found, else 0, also if its value is no str or something before it is not well formed. What follows is not
 * looked at. */
int msgpack_find_str(const unsigned char *data, size_t bytes, const char *key, const char **text, size_t *length);

#endif
