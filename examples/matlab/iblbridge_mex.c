/* iblbridge_mex.c: the functions of iblbridge.h for Octave, as one MEX file. (MATLAB can do without, see README.md.)
 *
 *     [status, outputs ...] = iblbridge_mex(library, function, inputs ...)
 *
 * `library` is the path of the shared library, which is loaded at the first call. `inputs` are the parameters that go
 * in, in the order of the header; `outputs` what the function writes through its pointers, in that order too: a number,
 * or a text of at most the `capacity` that was given as an input. Nothing is decided here: iblbridge.m is the client,
 * this is how it calls C.
 *
 * A function's signature has a letter for each parameter: t text and i int go in; T text, I int and D double come out.
 */
#include <stdio.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include "mex.h"

#ifdef HAVE_OCTAVE
#define TEXT_OF mxArrayToString /* its characters are the bytes of UTF-8 */
#else
#define TEXT_OF mxArrayToUTF8String
#endif

#define FAILURE "iblbridge:mex" /* of this file; the bridge's own failures are statuses */
#define MOST_PARAMETERS 8

struct value {
    int number;
    double real;
    char *text;
};

/* clang-format off */
/* functions: begin */
#define FUNCTIONS(F) \
    F(iblb_open, "ttiI", (const char *, const char *, int, int *), \
      (v[0].text, v[1].text, v[2].number, &v[3].number)) \
    F(iblb_call, "ititiTiI", (int, const char *, int, const char *, int, char *, int, int *), \
      (v[0].number, v[1].text, v[2].number, v[3].text, v[4].number, v[5].text, v[6].number, &v[7].number)) \
    F(iblb_close, "i", (int), \
      (v[0].number)) \
    F(iblb_last_error, "iTi", (int, char *, int), \
      (v[0].number, v[1].text, v[2].number)) \
    F(iblb_send, "ititiI", (int, const char *, int, const char *, int, int *), \
      (v[0].number, v[1].text, v[2].number, v[3].text, v[4].number, &v[5].number)) \
    F(iblb_notify, "ititi", (int, const char *, int, const char *, int), \
      (v[0].number, v[1].text, v[2].number, v[3].text, v[4].number)) \
    F(iblb_wait, "iiiTiI", (int, int, int, char *, int, int *), \
      (v[0].number, v[1].number, v[2].number, v[3].text, v[4].number, &v[5].number)) \
    F(iblb_withdraw, "ii", (int, int), \
      (v[0].number, v[1].number)) \
    F(iblb_cancel, "ii", (int, int), \
      (v[0].number, v[1].number)) \
    F(iblb_subscribe, "ii", (int, int), \
      (v[0].number, v[1].number)) \
    F(iblb_next_event, "iiITiI", (int, int, int *, char *, int, int *), \
      (v[0].number, v[1].number, &v[2].number, v[3].text, v[4].number, &v[5].number)) \
    F(iblb_serve, "iti", (int, const char *, int), \
      (v[0].number, v[1].text, v[2].number)) \
    F(iblb_next_command, "iiIITiI", (int, int, int *, int *, char *, int, int *), \
      (v[0].number, v[1].number, &v[2].number, &v[3].number, v[4].text, v[5].number, &v[6].number)) \
    F(iblb_answer, "iiit", (int, int, int, const char *), \
      (v[0].number, v[1].number, v[2].number, v[3].text)) \
    F(iblb_fail, "iit", (int, int, const char *), \
      (v[0].number, v[1].number, v[2].text)) \
    F(iblb_tell, "iit", (int, int, const char *), \
      (v[0].number, v[1].number, v[2].text)) \
    F(iblb_abandon, "i", (int), \
      (v[0].number)) \
    F(iblb_error_text, "iTi", (int, char *, int), \
      (v[0].number, v[1].text, v[2].number)) \
    F(iblb_worker_state, "iIII", (int, int *, int *, int *), \
      (v[0].number, &v[1].number, &v[2].number, &v[3].number)) \
    F(iblb_clock_ns, "D", (double *), \
      (&v[0].real)) \
    F(iblb_version, "", (void), \
      ())
/* functions: end */

#define CALLER(name, signature, types, arguments) \
    static int call_##name(void *address, struct value *v) { \
        (void)v; \
        return ((int (*) types)address) arguments; \
    }
FUNCTIONS(CALLER)
#define ROW(name, signature, types, arguments) {#name, signature, call_##name},
/* clang-format on */

static const struct function {
    const char *name;
    const char *signature;
    int (*call)(void *address, struct value *values);
} functions[] = {FUNCTIONS(ROW)};

static char *text_of(const mxArray *array, const char *what) {
    const size_t length = mxGetNumberOfElements(array);
    if (!mxIsChar(array) || (length && mxGetM(array) != 1))
        mexErrMsgIdAndTxt(FAILURE, "%s is not a text of one row.", what);
    const mxChar *characters = mxGetChars(array);
    for (size_t i = 0; i < length; i++)
        if (!characters[i])
            mexErrMsgIdAndTxt(FAILURE, "%s has a NUL in it.", what);
    return length ? TEXT_OF(array) : "";
}

static int number_of(const mxArray *array, const char *what) {
    double number = mxIsNumeric(array) && mxGetNumberOfElements(array) == 1 ? mxGetScalar(array) : 0.5;
    if (!(number >= -2147483648.0 && number <= 2147483647.0) || number != (int)number)
        mexErrMsgIdAndTxt(FAILURE, "%s is not a whole number of 32 bits.", what);
    return (int)number;
}

#ifdef _WIN32
static void *opened(const char *path) {
    wchar_t wide[4096];
    return MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 4096) ? (void *)LoadLibraryW(wide) : NULL;
}

static void *symbol(void *library, const char *name) {
    return (void *)(size_t)GetProcAddress((HMODULE)library, name);
}

static const char *trouble(const char *what) {
    static char text[4200];
    const DWORD error = GetLastError();
    snprintf(text, sizeof text, "%s: error %lu of Windows%s", what, (unsigned long)error,
             error == ERROR_BAD_EXE_FORMAT ? ", it is no library for these bits" : "");
    return text;
}
#else
static void *opened(const char *path) {
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void *symbol(void *library, const char *name) {
    return dlsym(library, name);
}

static const char *trouble(const char *what) {
    (void)what; /* dlerror names it */
    return dlerror();
}
#endif

/* The address of a function in the library at `path`. Never unloaded: another thread of it may be at work. */
static void *address_of(const char *path, const char *name) {
    static void *library;
    static char loaded[4096];
    if (!library || strcmp(path, loaded)) {
        library = opened(path);
        if (!library)
            mexErrMsgIdAndTxt(FAILURE, "The library of iblbridge for %d-bit programs cannot be loaded: %s", 8 * (int)sizeof library,
                              trouble(path));
        snprintf(loaded, sizeof loaded, "%s", path);
    }
    void *address = symbol(library, name);
    if (!address)
        mexErrMsgIdAndTxt(FAILURE, "%s", trouble(name));
    return address;
}

static const struct function *function_of(const char *name) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, name))
            return functions + i;
    mexErrMsgIdAndTxt(FAILURE, "There is no function %s.", name);
    return NULL;
}

static int is_input(char letter) {
    return letter == 't' || letter == 'i';
}

void mexFunction(int nlhs, mxArray *plhs[], int nrhs, const mxArray *prhs[]) {
    struct value values[MOST_PARAMETERS] = {{0}};
    if (nrhs < 2)
        mexErrMsgIdAndTxt(FAILURE, "The first inputs are the library and the function.");
    const struct function *function = function_of(text_of(prhs[1], "The name of the function"));
    void *address = address_of(text_of(prhs[0], "The path of the library"), function->name);

    int next = 2;
    for (int i = 0; function->signature[i]; i++) {
        char what[64];
        if (!is_input(function->signature[i]))
            continue;
        if (next == nrhs)
            mexErrMsgIdAndTxt(FAILURE, "%s has more inputs than %d.", function->name, nrhs - 2);
        snprintf(what, sizeof what, "Input %d of %s", next - 1, function->name);
        if (function->signature[i] == 't')
            values[i].text = text_of(prhs[next++], what);
        else
            values[i].number = number_of(prhs[next++], what);
        if (i > 0 && function->signature[i - 1] == 'T') { /* the capacity of the text before it */
            if (values[i].number < 1)
                mexErrMsgIdAndTxt(FAILURE, "%s is not a capacity.", what);
            values[i - 1].text = mxCalloc((size_t)values[i].number, 1);
        }
    }
    if (next != nrhs)
        mexErrMsgIdAndTxt(FAILURE, "%s has %d inputs, not %d.", function->name, next - 2, nrhs - 2);

    plhs[0] = mxCreateDoubleScalar(function->call(address, values));
    for (int i = 0, output = 1; function->signature[i] && output < nlhs; i++) {
        if (is_input(function->signature[i]))
            continue;
        switch (function->signature[i]) {
        case 'T':
            plhs[output++] = mxCreateString(values[i].text);
            break;
        case 'I':
            plhs[output++] = mxCreateDoubleScalar(values[i].number);
            break;
        default:
            plhs[output++] = mxCreateDoubleScalar(values[i].real);
        }
    }
}
