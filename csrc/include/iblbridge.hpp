/* iblbridge.hpp: start, stop and query the remote services of a rig from C++ (C++11 or newer). This header is all; link with
 * -liblbridge.
 *
 *     iblbridge::Client rig("rig0", "stimulus");
 *     iblbridge::Response response = rig.call(IBLB_EXPSTART, iblbridge::arguments("2026-01-01_1_subject"));
 *
 *     iblbridge::Command command;
 *     rig.serve("cameras");
 *     while (running)
 *         if (rig.next_command(command, std::chrono::milliseconds(200)))
 *             command.answer();
 *
 * - A `Client` owns one slot of the segment and gives it back when it goes: in order, but as lost while an exception passes
 *   (IBLB_CLIENT_LOST: the worker does what `on_client_lost` of its configuration says). It can be moved, not copied.
 * - Any thread may call anything at any time. A wait in one thread holds up no other call, and ends if another thread closes the client
 *   or cancels the request.
 * - Failures are thrown as `Error`, with code, name, sentence, and the `Response` if there is one: when one service fails the data of
 *   the good ones is in there. A warning is never thrown: it stands in `Response::code`, or `Client::warning` tells it.
 * - Text is UTF-8 both ways. Waits take std::chrono durations; stamps are nanoseconds of `now()`, 0 for never.
 * - Numbers (IBLB_EXPSTART, IBLB_E_PARTIAL, ...) and all that a message, a response and a code mean stand in iblbridge.h, which is the
 *   manual.
 *
 * C++ has no JSON of its own, and an experiment needs little of it: which service did what, and a few values. So there is a reader here,
 * the class `Json`, of some eighty lines; it takes valid JSON and refuses everything else. If you use a JSON library anyway, give it
 * `Response::json` or `Event::json`, the whole text as it came, and text of its own as arguments.
 */
#ifndef IBLBRIDGE_HPP
#define IBLBRIDGE_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <limits>
#include <locale>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "iblbridge.h"

namespace iblbridge {

/* ---- text and JSON ---- */

namespace detail {

inline void append_utf8(std::string &text, unsigned long point) {
    if (point < 0x80) {
        text += static_cast<char>(point);
        return;
    }
    const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const int heads[] = {0, 0xC0, 0xE0, 0xF0};
    text += static_cast<char>(heads[more] | static_cast<int>(point >> (6 * more)));
    for (int i = more - 1; i >= 0; i--)
        text += static_cast<char>(0x80 | static_cast<int>((point >> (6 * i)) & 0x3F));
}

/* The four hexadecimal digits at `at`, or -1 if there are none. */
inline long hex4(const std::string &text, std::size_t at) {
    long value = 0;
    for (std::size_t i = at; i < at + 4; i++) {
        const char c = i < text.size() ? text[i] : '\0';
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Reads \uXXXX, or two of them that make one character, at `at` and moves on; false if there is none. Half a pair becomes U+FFFD. */
inline bool read_escape(const std::string &text, std::size_t &at, std::string &to) {
    const long first = text.compare(at, 2, "\\u") == 0 ? hex4(text, at + 2) : -1;
    if (first < 0)
        return false;
    at += 6;
    if ((first & 0xF800) != 0xD800) {
        append_utf8(to, static_cast<unsigned long>(first));
        return true;
    }
    const long second = first < 0xDC00 && at + 6 <= text.size() && text.compare(at, 2, "\\u") == 0 ? hex4(text, at + 2) : -1;
    if ((second & 0xFC00) != 0xDC00 || second < 0) {
        append_utf8(to, 0xFFFD);
        return true;
    }
    at += 6;
    append_utf8(to, 0x10000UL + (static_cast<unsigned long>(first & 0x3FF) << 10) + static_cast<unsigned long>(second & 0x3FF));
    return true;
}

/* The C library's sentences are ASCII with \uXXXX. */
inline std::string unescaped(const std::string &ascii) {
    std::string text;
    for (std::size_t at = 0; at < ascii.size();)
        if (!read_escape(ascii, at, text))
            text += ascii[at++];
    return text;
}

} // namespace detail

/* A JSON value that was read: json["value"][0]["name"].text(). What is not there, or is of another kind, reads as null, "", 0 and false;
 * nothing is thrown for it. */
class Json {
  public:
    enum class Kind { Null, Boolean, Number, Text, Array, Object };

    Json() : kind_(Kind::Null) {
    }

    /* Reads one JSON value. Throws std::invalid_argument, naming the offset, if the text is anything else. */
    static Json parse(const std::string &text) {
        std::size_t at = 0;
        Json value = read(text, at, 0);
        if (at != text.size())
            refuse(at);
        return value;
    }

    Kind kind() const {
        return kind_;
    }
    /* Text as UTF-8; of a number its digits, of a truth value "true" or "false". */
    const std::string &text() const {
        return text_;
    }
    /* Exact for whole numbers of 64 bits; cut and limited to those otherwise. */
    long long integer() const {
        if (kind_ == Kind::Number && text_.find_first_of(".eE") == std::string::npos)
            return std::strtoll(text_.c_str(), nullptr, 10);
        const double value = number();
        return value >= 9.2e18 ? LLONG_MAX : value <= -9.2e18 ? LLONG_MIN : static_cast<long long>(value);
    }
    double number() const {
        if (kind_ != Kind::Number)
            return 0;
        std::istringstream digits(text_);
        digits.imbue(std::locale::classic()); /* a point is a point, whatever the user's language */
        double value = 0;
        digits >> value;
        return value;
    }
    bool truth() const {
        return kind_ == Kind::Boolean && text_ == "true";
    }
    /* The values of an array or an object, in order: as a vector, for its size and for loops. */
    const std::vector<Json> &values() const {
        return values_;
    }
    /* The keys of an object, in the order of its values. */
    const std::vector<std::string> &keys() const {
        return keys_;
    }
    /* The value of a key. */
    const Json &operator[](const std::string &key) const {
        const auto found = std::find(keys_.begin(), keys_.end(), key);
        return found == keys_.end() ? none() : values_[static_cast<std::size_t>(found - keys_.begin())];
    }
    /* The value at a place, from 0. */
    const Json &operator[](std::size_t place) const {
        return place < values_.size() ? values_[place] : none();
    }

  private:
    static const Json &none() {
        static const Json empty;
        return empty;
    }

    enum { DEEPEST = 200 };

    [[noreturn]] static void refuse(std::size_t at) {
        throw std::invalid_argument("This is not JSON at offset " + std::to_string(at) + ".");
    }

    static void skip_blanks(const std::string &text, std::size_t &at) {
        at = std::min(text.find_first_not_of(" \t\r\n", at), text.size());
    }

    static Json read(const std::string &text, std::size_t &at, int depth) {
        Json value;
        skip_blanks(text, at);
        const char first = at < text.size() ? text[at] : '\0';
        if (depth > DEEPEST)
            refuse(at);
        if (first == '{' || first == '[') {
            value.kind_ = first == '{' ? Kind::Object : Kind::Array;
            value.read_values(text, at, first == '{' ? '}' : ']', depth);
        } else if (first == '"') {
            value.kind_ = Kind::Text;
            value.text_ = read_text(text, at);
        } else {
            const std::size_t end = std::min(text.find_first_of(" \t\r\n,:]}", at), text.size());
            value.text_ = text.substr(at, end - at);
            value.kind_ = value.text_ == "null"                             ? Kind::Null
                          : value.text_ == "true" || value.text_ == "false" ? Kind::Boolean
                          : is_number(value.text_)                          ? Kind::Number
                                                                            : (refuse(at), Kind::Null);
            if (value.kind_ == Kind::Null)
                value.text_.clear();
            at = end;
        }
        skip_blanks(text, at);
        return value;
    }

    void read_values(const std::string &text, std::size_t &at, char close, int depth) {
        skip_blanks(text, ++at);
        if (at < text.size() && text[at] == close) {
            at++;
            return;
        }
        for (char next = ','; next != close; at++) {
            if (kind_ == Kind::Object) {
                skip_blanks(text, at);
                keys_.push_back(read_text(text, at));
                skip_blanks(text, at);
                if (at >= text.size() || text[at++] != ':')
                    refuse(at);
            }
            values_.push_back(read(text, at, depth + 1));
            next = at < text.size() ? text[at] : '\0';
            if (next != ',' && next != close)
                refuse(at);
        }
    }

    static std::string read_text(const std::string &text, std::size_t &at) {
        static const std::string letters = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
        std::string value;
        if (at >= text.size() || text[at++] != '"')
            refuse(at);
        while (at < text.size() && text[at] != '"') {
            if (static_cast<unsigned char>(text[at]) < 0x20)
                refuse(at);
            if (text[at] != '\\') {
                value += text[at++];
            } else if (!detail::read_escape(text, at, value)) {
                const std::size_t which = at + 1 < text.size() ? letters.find(text[at + 1]) : std::string::npos;
                if (which == std::string::npos)
                    refuse(at);
                value += meant[which];
                at += 2;
            }
        }
        if (at >= text.size())
            refuse(at);
        at++;
        return value;
    }

    /* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? */
    static bool is_number(const std::string &text) {
        const char *at = text.c_str();
        const auto digits = [&] {
            const char *from = at;
            while (*at >= '0' && *at <= '9')
                at++;
            return at - from;
        };
        at += *at == '-' ? 1 : 0;
        const bool zero = *at == '0';
        const auto whole = digits();
        if (whole == 0 || (zero && whole > 1) || (*at == '.' && (at++, digits() == 0)))
            return false;
        if (*at == 'e' || *at == 'E') {
            at++;
            at += *at == '+' || *at == '-' ? 1 : 0;
            if (digits() == 0)
                return false;
        }
        return at == text.c_str() + text.size(); /* it may hold a NUL */
    }

    Kind kind_;
    std::string text_;
    std::vector<std::string> keys_;
    std::vector<Json> values_;
};

/* Text as JSON, with its quotes. */
inline std::string quote(const std::string &text) {
    static const char digits[] = "0123456789abcdef";
    std::string json = "\"";
    for (const char c : text) {
        const unsigned char byte = static_cast<unsigned char>(c);
        if (byte < 0x20) {
            json += "\\u00";
            json += digits[byte >> 4];
            json += digits[byte & 15];
        } else {
            if (c == '"' || c == '\\')
                json += '\\';
            json += c;
        }
    }
    return json + '"';
}

namespace detail {

inline std::string to_json(const std::string &text) {
    return quote(text);
}
inline std::string to_json(const char *text) {
    return text ? quote(text) : "null";
}
inline std::string to_json(std::nullptr_t) {
    return "null";
}
inline std::string to_json(bool truth) {
    return truth ? "true" : "false";
}
template <class Number> typename std::enable_if<std::is_arithmetic<Number>::value, std::string>::type to_json(Number number) {
    std::ostringstream text;
    if (std::is_floating_point<Number>::value && !std::isfinite(static_cast<double>(number)))
        throw std::invalid_argument("JSON cannot express NaN, infinity or a number beyond double; send text or a number instead.");
    text.imbue(std::locale::classic());
    text.precision(std::numeric_limits<double>::max_digits10);
    text << +number;
    return text.str();
}

/* Both before either, because each may hold the other. */
template <class Value> std::string to_json(const std::vector<Value> &list);
template <class Value> std::string to_json(const std::map<std::string, Value> &object);

template <class Value> std::string to_json(const std::vector<Value> &list) {
    std::string json = "[";
    for (std::size_t i = 0; i < list.size(); i++)
        json += (i ? "," : "") + to_json(static_cast<const Value &>(list[i])); /* of bools it holds something else */
    return json + "]";
}
template <class Value> std::string to_json(const std::map<std::string, Value> &object) {
    std::string json = "{";
    for (const auto &entry : object)
        json += (json.size() > 1 ? "," : "") + quote(entry.first) + ":" + to_json(entry.second);
    return json + "}";
}

inline void append_pairs(std::string &) {
}
template <class Value, class... More>
void append_pairs(std::string &json, const std::string &key, const Value &value, const More &...more) {
    json += (json.size() > 1 ? "," : "") + quote(key) + ":" + to_json(value);
    append_pairs(json, more...);
}

} // namespace detail

/* The arguments of a message as JSON: texts, numbers, bool, nullptr; std::vector and std::map<std::string, ...> of these and of each
 * other. If the values of a list or an object are of several types write the JSON yourself, texts with `quote`. Throws
 * std::invalid_argument if a number is NaN or infinite. */
template <class... Values> std::string arguments(const Values &...values) {
    std::string json = "[";
    const std::string each[] = {detail::to_json(values)..., ""};
    for (std::size_t i = 0; i < sizeof...(values); i++)
        json += (i ? "," : "") + each[i];
    return json + "]";
}

/* An object as JSON: object("file", name, "frames", 5400). Values and errors as of `arguments`. */
template <class... Pairs> std::string object(const Pairs &...pairs) {
    std::string json = "{";
    detail::append_pairs(json, pairs...);
    return json + "}";
}

/* ---- what comes back ---- */

/* What became of a command at one service. */
struct Service {
    std::string name;
    bool ok = false;    /* it did what was asked */
    std::string state;  /* "not_sent", "unreachable" (no echo), "echoed" (received, no reply), "answered" */
    std::string reason; /* "" if ok, else why, as a word for programs: "refused", ...; iblbridge.h lists them */
    std::string error;  /* why it is not ok, as a sentence for people, or what was left out (IBLB_W_SHORTENED); else "" */
    Json data;          /* EXPINFO {status, info}, EXPSTATUS {status}, others {value}; {} if there is none */
    int status = -1;    /* IBLB_STATUS_RUNNING, ...: what the service says it does; -1 if its reply does not say it */
    std::chrono::nanoseconds sent{0}, echoed{0}, answered{0};
};

/* What became of a command. */
struct Response {
    int request = 0;
    std::string command_id; /* the key of this command in journals and logs */
    std::string message;    /* "EXPSTART" */
    int code = 0;           /* 0, a warning, or the code of the Error that holds this response */
    std::string error;      /* "" or one sentence */
    std::vector<Service> services;
    std::chrono::nanoseconds sent{0}, accepted{0}, finished{0};
    std::string wall; /* ISO 8601, when the worker accepted the command */
    std::string json; /* all of it, as it came */

    /* The service of this name. Throws std::out_of_range if it was not asked. */
    const Service &operator[](const std::string &name) const {
        for (const Service &service : services)
            if (service.name == name)
                return service;
        throw std::out_of_range("The response has no service \"" + name + "\".");
    }
};

/* What a service, or the worker, says by itself. */
struct Event {
    long long sequence = 0; /* counts this client's events; a gap says that some were lost because nobody read */
    int message = 0;        /* IBLB_EXPINTERRUPT, IBLB_SERVICE_DOWN, ... */
    std::string event;      /* "EXPINTERRUPT" */
    std::string service;    /* "" if none */
    std::string client;     /* "" unless CLIENT_LOST */
    Json data;              /* as in responses */
    std::chrono::nanoseconds time{0};
    std::string wall; /* ISO 8601 */
    std::string json; /* all of it, as it came */
};

struct WorkerState {
    bool alive;      /* a worker lives */
    int services;    /* how many are configured */
    int services_up; /* how many of them have answered within the last 30 s; 0 if the rig was idle */
};

/* The name of a code, "IBLB_E_PARTIAL"; "?" if there is none. */
inline const char *error_name(int code) {
    switch (code) {
        /* clang-format off */
    /* codes: begin */
    case IBLB_OK: return "IBLB_OK";
    case IBLB_E_ARGUMENT: return "IBLB_E_ARGUMENT";
    case IBLB_E_HANDLE: return "IBLB_E_HANDLE";
    case IBLB_E_CLOSED: return "IBLB_E_CLOSED";
    case IBLB_E_FORKED: return "IBLB_E_FORKED";
    case IBLB_E_NAME: return "IBLB_E_NAME";
    case IBLB_E_HANDLES: return "IBLB_E_HANDLES";
    case IBLB_E_NO_SEGMENT: return "IBLB_E_NO_SEGMENT";
    case IBLB_E_SEGMENT: return "IBLB_E_SEGMENT";
    case IBLB_E_VERSION: return "IBLB_E_VERSION";
    case IBLB_E_STALE: return "IBLB_E_STALE";
    case IBLB_E_PERMISSION: return "IBLB_E_PERMISSION";
    case IBLB_E_NO_SLOT: return "IBLB_E_NO_SLOT";
    case IBLB_E_NAME_TAKEN: return "IBLB_E_NAME_TAKEN";
    case IBLB_E_QUARANTINED: return "IBLB_E_QUARANTINED";
    case IBLB_E_NO_WORKER: return "IBLB_E_NO_WORKER";
    case IBLB_E_WORKER_BUSY: return "IBLB_E_WORKER_BUSY";
    case IBLB_E_SYSTEM: return "IBLB_E_SYSTEM";
    case IBLB_E_MEMORY: return "IBLB_E_MEMORY";
    case IBLB_E_SUPERSEDED: return "IBLB_E_SUPERSEDED";
    case IBLB_E_MESSAGE: return "IBLB_E_MESSAGE";
    case IBLB_E_SERVICE: return "IBLB_E_SERVICE";
    case IBLB_E_UTF8: return "IBLB_E_UTF8";
    case IBLB_E_JSON: return "IBLB_E_JSON";
    case IBLB_E_MSGPACK: return "IBLB_E_MSGPACK";
    case IBLB_E_ARGS: return "IBLB_E_ARGS";
    case IBLB_E_TOO_LARGE: return "IBLB_E_TOO_LARGE";
    case IBLB_E_FULL: return "IBLB_E_FULL";
    case IBLB_E_TOO_MANY: return "IBLB_E_TOO_MANY";
    case IBLB_E_TIMEOUT: return "IBLB_E_TIMEOUT";
    case IBLB_E_REQUEST: return "IBLB_E_REQUEST";
    case IBLB_E_BUFFER: return "IBLB_E_BUFFER";
    case IBLB_E_NOT_SENT: return "IBLB_E_NOT_SENT";
    case IBLB_E_PENDING: return "IBLB_E_PENDING";
    case IBLB_E_CANCELLED: return "IBLB_E_CANCELLED";
    case IBLB_E_LATE: return "IBLB_E_LATE";
    case IBLB_E_COMMAND: return "IBLB_E_COMMAND";
    case IBLB_E_PARTIAL: return "IBLB_E_PARTIAL";
    case IBLB_E_ALL_FAILED: return "IBLB_E_ALL_FAILED";
    case IBLB_E_EXPIRED: return "IBLB_E_EXPIRED";
    case IBLB_E_ABORTED: return "IBLB_E_ABORTED";
    case IBLB_E_OUTCOME_UNKNOWN: return "IBLB_E_OUTCOME_UNKNOWN";
    case IBLB_E_INTERNAL: return "IBLB_E_INTERNAL";
    case IBLB_W_NO_WORKER: return "IBLB_W_NO_WORKER";
    case IBLB_W_OPTIONAL: return "IBLB_W_OPTIONAL";
    case IBLB_W_ACCEPTED: return "IBLB_W_ACCEPTED";
    case IBLB_W_SHORTENED: return "IBLB_W_SHORTENED";
    case IBLB_W_STATUS: return "IBLB_W_STATUS";
    case IBLB_W_NO_SERVICES: return "IBLB_W_NO_SERVICES";
    /* codes: end */
    /* clang-format on */
    default:
        return "?";
    }
}

/* What a code means and what to do; "" for a code that does not exist. */
inline std::string error_text(int code) {
    char text[1024];
    return iblb_error_text(code, text, sizeof text) == IBLB_OK ? detail::unescaped(text) : "";
}

/* The clock of all stamps, in nanoseconds since the computer was started. */
inline std::chrono::nanoseconds now() {
    double ns = 0;
    iblb_clock_ns(&ns);
    return std::chrono::nanoseconds(static_cast<long long>(ns));
}

/* A negative status. what() is the sentence with the code behind it. */
class Error : public std::runtime_error {
  public:
    Error(int code, const std::string &sentence, int request = 0, std::shared_ptr<const Response> response = nullptr)
        : std::runtime_error(sentence + " [" + error_name(code) + " " + std::to_string(code) + "]"), code_(code),
          sentence_(std::make_shared<const std::string>(sentence)), request_(request), response_(std::move(response)) {
    }
    int code() const {
        return code_;
    }
    const char *name() const {
        return error_name(code_);
    }
    /* What happened and what to do, naming each failed service with its reason. */
    const std::string &sentence() const {
        return *sentence_;
    }
    /* The response; nullptr if there is none. Lives as long as the error. */
    const Response *response() const {
        return response_.get();
    }
    /* The request that stays open, for `wait` or `cancel`; 0 if none does. */
    int request() const {
        return request_;
    }

  private:
    int code_;
    std::shared_ptr<const std::string> sentence_; /* shared: the copy of an exception must not throw */
    int request_;
    std::shared_ptr<const Response> response_;
};

namespace detail {

/* Text as C takes it. C sees an end at a NUL: "cameras\0x" would command the cameras. */
inline const char *whole(const std::string &text) {
    if (text.find('\0') != std::string::npos)
        throw std::invalid_argument("The text holds a NUL character, where C sees its end.");
    return text.c_str();
}

/* The sentence of the last error or warning of a handle. */
inline std::string last_error(int handle) {
    char text[4096];
    iblb_last_error(handle, text, sizeof text);
    return unescaped(text);
}

/* How many exceptions are in flight in this thread; before C++17 only whether there is one. */
inline int exceptions_passing() noexcept {
#ifdef __cpp_lib_uncaught_exceptions
    return std::uncaught_exceptions();
#else
    return std::uncaught_exception() ? 1 : 0;
#endif
}

} // namespace detail

/* ---- what masters ask ---- */

/* What a camera wants to be asked. The worker answers the questions IBLB_EXPSTATUS and IBLB_EXPINFO itself. */
enum { SERVED = IBLB_EXPINIT + IBLB_EXPSTART + IBLB_EXPEND + IBLB_EXPCLEANUP + IBLB_EXPINTERRUPT };

/* What a master asks, to be answered once; from whatever thread. If it goes out of scope, or another is put in its place, without
 * `answer` or `fail`, it fails by itself, so that no master waits. It can be moved, not copied: keep it while your camera works. Of an
 * exception that passes a destructor cannot tell the words: `attempt` can. */
class Command {
  public:
    std::string message;                     /* "EXPSTART" */
    int message_number = 0;                  /* IBLB_EXPSTART, ... */
    Json args;                               /* an array: args[0].text() */
    std::string service;                     /* the listener's name */
    std::string master;                      /* who asks: "192.168.0.3:55123" */
    std::chrono::nanoseconds time{0};        /* when it reached the worker */
    std::chrono::milliseconds timeout_ms{0}; /* so long after `time` the master is told that it failed */
    std::string wall;                        /* ISO 8601 */
    std::string json;                        /* all of it, as it came */

    Command() = default;
    Command(Command &&other) noexcept {
        take(other);
    }
    Command &operator=(Command &&other) noexcept {
        if (this != &other) {
            forget();
            take(other);
        }
        return *this;
    }
    Command(const Command &) = delete;
    Command &operator=(const Command &) = delete;
    ~Command() {
        forget();
    }

    /* It was neither answered nor failed. */
    bool is_open() const {
        return number_ != 0;
    }

    /* An EXPINTERRUPT was taken since: what still goes on should end. */
    bool interrupted() const {
        return interrupts_ && *interrupts_ != seen_;
    }

    /* Says that it was done. `status`: what the program does now, IBLB_STATUS_RUNNING, ...; -1: what is usual after this message. `data`:
     * "" or JSON, as `object()` makes it. False: too late, the master has been told already that it failed. Throws Error; with most codes
     * (iblb_answer) it can be answered again. Never waits. */
    bool answer(int status = -1, const std::string &data = "") {
        return end(iblb_answer(handle_, number_, status, detail::whole(data)));
    }

    /* Says that it was not done, and why, for people. Returns and throws as `answer`. */
    bool fail(const std::string &sentence) {
        const bool in_time = end(iblb_fail(handle_, number_, detail::whole(sentence)));
        error_ = sentence;
        return in_time;
    }

    /* The sentence with which it failed; "" if it did not. */
    const std::string &error() const {
        return error_;
    }

    /* Does the work, which returns the data of the answer ("": none), and answers with it, unless the work has answered or moved the
     * command. A std::exception that the work throws becomes the sentence with which the command fails, and ends here. An EXPINTERRUPT that
     * came meanwhile lets it fail as well. Returns as `answer`. */
    template <class Work> bool attempt(Work work) {
        try {
            const std::string data = work();
            if (!number_)
                return true;
            return interrupted() ? fail("An EXPINTERRUPT overtook this " + message + ".") : answer(-1, data);
        } catch (const std::exception &error) {
            if (!number_)
                throw;
            return fail(error.what());
        }
    }

  private:
    friend class Client;

    Command(int handle, int number, int asked, const char *text, std::shared_ptr<const std::atomic<unsigned>> interrupts)
        : message_number(asked), json(text), handle_(handle), number_(number), passing_(detail::exceptions_passing()),
          interrupts_(std::move(interrupts)), seen_(*interrupts_) {
        const Json body = Json::parse(json);
        message = body["message"].text();
        args = body["args"];
        service = body["service"].text();
        master = body["master"].text();
        time = std::chrono::nanoseconds(body["time"].integer());
        timeout_ms = std::chrono::milliseconds(body["timeout_ms"].integer());
        wall = body["wall"].text();
    }

    void take(Command &other) noexcept {
        message = std::move(other.message);
        message_number = other.message_number;
        args = std::move(other.args);
        service = std::move(other.service);
        master = std::move(other.master);
        time = other.time;
        timeout_ms = other.timeout_ms;
        wall = std::move(other.wall);
        json = std::move(other.json);
        handle_ = other.handle_;
        number_ = other.number_;
        passing_ = detail::exceptions_passing();
        interrupts_ = std::move(other.interrupts_);
        seen_ = other.seen_;
        error_ = std::move(other.error_);
        other.number_ = 0;
    }

    bool end(int code) {
        if (code < 0 && code != IBLB_E_LATE)
            throw Error(code, detail::last_error(handle_));
        number_ = 0;
        return code != IBLB_E_LATE;
    }

    void forget() noexcept {
        if (number_)
            iblb_fail(handle_, number_,
                      detail::exceptions_passing() > passing_ ? "An exception ended the program's work at this command."
                                                              : "The program left a command without an answer.");
        number_ = 0;
    }

    int handle_ = 0;
    int number_ = 0;
    int passing_ = 0; /* exceptions in flight when it was taken */
    std::shared_ptr<const std::atomic<unsigned>> interrupts_;
    unsigned seen_ = 0;
    std::string error_;
};

/* ---- the client ---- */

class Client {
  public:
    using milliseconds = std::chrono::milliseconds;

    /* Attaches to a segment under the name `client` (1 to 63 bytes; "": "pid-<pid>-<n>-<random>"), and waits this long for a segment and a
     * worker. Opening the same segment under the same name again in this process closes the older one. Throws Error; that no worker is
     * there is only a `warning`. */
    explicit Client(const std::string &segment, const std::string &client = "", milliseconds timeout = std::chrono::seconds(2))
        : handle_(0), warning_(0), interrupts_(std::make_shared<std::atomic<unsigned>>(0)), passing_(detail::exceptions_passing()) {
        int handle = 0;
        const int code = iblb_open(detail::whole(segment), detail::whole(client), count(timeout), &handle);
        if (code < 0)
            throw Error(code, last_error());
        handle_ = handle;
        warning_ = code;
    }
    Client(Client &&other) noexcept
        : handle_(other.handle_.exchange(0)), warning_(other.warning_.load()), interrupts_(other.interrupts_),
          passing_(detail::exceptions_passing()) {
    }
    Client &operator=(Client &&other) noexcept {
        if (this != &other) {
            close();
            warning_ = other.warning_.load();
            interrupts_ = other.interrupts_;
            handle_ = other.handle_.exchange(0);
        }
        return *this;
    }
    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;
    ~Client() {
        if (detail::exceptions_passing() > passing_) /* one that began in its lifetime */
            abandon();
        else
            close();
    }

    /* Gives the slot back. Calling it twice, or from any thread, is harmless: waits in others end with IBLB_E_CLOSED. */
    void close() noexcept {
        end(iblb_close);
    }

    /* The same, but says that the work is not done: to the worker this client is lost. */
    void abandon() noexcept {
        end(iblb_abandon);
    }

    /* Writes a command and returns its request number at once. `arguments`: "" or JSON, as `arguments()` makes it. `services`: "" for all,
     * else names separated by commas. `ttl`: if it has not begun to be sent within this time it never will be; 0: 10 s; negative: no limit.
     */
    int send(int message, const std::string &arguments = "", const std::string &services = "", milliseconds ttl = milliseconds(0)) {
        int request = 0;
        warning_ = check(iblb_send(handle_, detail::whole(services), message, detail::whole(arguments), count(ttl), &request));
        return request;
    }

    /* The same without a response: what became of it is counted and logged by the worker. */
    void notify(int message, const std::string &arguments = "", const std::string &services = "", milliseconds ttl = milliseconds(0)) {
        warning_ = check(iblb_notify(handle_, detail::whole(services), message, detail::whole(arguments), count(ttl)));
    }

    /* Waits for the response to a request. Throws Error if the command failed; also, with the request staying open, if there is no response
     * in time (IBLB_E_TIMEOUT) or, at once, if no worker lives (IBLB_E_NO_WORKER; a new one will answer). */
    Response wait(int request, milliseconds timeout = std::chrono::seconds(12)) {
        std::vector<char> json(FIRST_CAPACITY);
        const int code = fill(json, [&](char *text, int capacity, int *needed) {
            return iblb_wait(handle_, request, count(timeout), text, capacity, needed);
        });
        return outcome(code, json.data(), request);
    }

    /* Sends a command and waits until every service has done it; `timeout` is its time to live too. Throws as `wait`, but if time is up or
     * no worker lives a command that was not accepted is withdrawn (IBLB_E_NOT_SENT, IBLB_E_NO_WORKER: nothing was sent); the answer to an
     * accepted one is still to come (IBLB_E_PENDING): `wait` for Error::request, do not repeat. */
    Response call(int message, const std::string &arguments = "", const std::string &services = "",
                  milliseconds timeout = std::chrono::seconds(12)) {
        int request = 0;
        std::vector<char> json(FIRST_CAPACITY);
        const int code = iblb_call(handle_, detail::whole(services), message, detail::whole(arguments), count(timeout), json.data(),
                                   FIRST_CAPACITY, &request);
        if (code == IBLB_E_BUFFER)
            return wait(request, milliseconds(0));
        return outcome(code, json.data(), code == IBLB_E_PENDING ? request : 0);
    }

    /* Withdraws a command if no worker has accepted it: true, nothing will be sent; false: its answer can still be waited for. */
    bool withdraw(int request) {
        return check(iblb_withdraw(handle_, request)) == IBLB_OK;
    }

    /* Gives a request up. True if nothing was sent nor will be; false if a worker had accepted it: its answer will be discarded. */
    bool cancel(int request) {
        return check(iblb_cancel(handle_, request)) == IBLB_OK;
    }

    /* Chooses the events that `next_event` gives, in place of the earlier choice: IBLB_EXPINTERRUPT | IBLB_SERVICE_DOWN; 0 for none. */
    void subscribe(int events) {
        check(iblb_subscribe(handle_, events));
    }

    /* The next event; false if there was none in time. Throws Error with IBLB_E_NO_WORKER at once if no worker lives. */
    bool next_event(Event &event, milliseconds timeout) {
        int message = 0;
        std::vector<char> json(FIRST_CAPACITY);
        const int code = fill(json, [&](char *text, int capacity, int *needed) {
            return iblb_next_event(handle_, count(timeout), &message, text, capacity, needed);
        });
        if (code == IBLB_E_TIMEOUT)
            return false;
        check(code);
        event = Event();
        event.message = message;
        event.json = json.data();
        const Json body = Json::parse(event.json);
        event.sequence = body["sequence"].integer();
        event.event = body["event"].text();
        event.service = body["service"].text();
        event.client = body["client"].text();
        event.data = body["data"];
        event.time = ns(body["time"]);
        event.wall = body["wall"].text();
        return true;
    }

    /* Gets from now on what masters ask of the listener `service` ("": the only one there is) of the worker, in place of what was served
     * before. `messages`: the sum of what the program wants to be asked; 0: it serves no more. Throws Error; that no worker is there is
     * only a `warning`. */
    void serve(const std::string &service = "", int messages = SERVED) {
        warning_ = check(iblb_serve(handle_, detail::whole(service), messages));
    }

    /* The next command, an EXPINTERRUPT before all others; false if nothing was asked in time. Waits for a worker, too, if there is none.
     * What `command` held before fails if it was not answered. A program is asked one thing at a time and an EXPINTERRUPT beside it: take
     * with time-out 0 now and then while a command takes long, or in a second thread. */
    bool next_command(Command &command, milliseconds timeout) {
        int number = 0, message = 0;
        std::vector<char> json(FIRST_CAPACITY);
        const int code = fill(json, [&](char *text, int capacity, int *needed) {
            return iblb_next_command(handle_, count(timeout), &number, &message, text, capacity, needed);
        });
        if (code == IBLB_E_TIMEOUT || code == IBLB_E_NO_WORKER)
            return false;
        check(code);
        if (message == IBLB_EXPINTERRUPT)
            ++*interrupts_;
        command = Command(handle_, number, message, json.data(), interrupts_);
        return true;
    }

    /* Says something without having been asked: IBLB_EXPINTERRUPT (a camera died), IBLB_EXPSTATUS (what it does from now on: "20"),
     * IBLB_EXPINFO. `data`: "" or JSON, as `object()` makes it. */
    void tell(int message, const std::string &data = "") {
        warning_ = check(iblb_tell(handle_, message, detail::whole(data)));
    }

    /* Whether a worker lives, and how many services it has. Never blocks. */
    WorkerState worker_state() const {
        int alive = 0, services = 0, services_up = 0;
        check(iblb_worker_state(handle_, &alive, &services, &services_up));
        return {alive == 1, services, services_up};
    }

    /* IBLB_W_NO_WORKER if no worker lived when this client was opened or last sent something, else 0. */
    int warning() const {
        return warning_;
    }

    /* The sentence of the last error or warning, from whatever thread. */
    std::string last_error() const {
        return detail::last_error(handle_);
    }

    /* For the functions of iblbridge.h; 0 when closed. */
    int handle() const {
        return handle_;
    }

  private:
    enum { FIRST_CAPACITY = 16 << 10 };

    /* Gives the slot back in one of two ways, if that was not done yet. */
    void end(int (*how)(int)) noexcept {
        const int handle = handle_.exchange(0);
        if (handle)
            how(handle);
    }

    static int count(milliseconds time) {
        return static_cast<int>(std::max<long long>(INT_MIN, std::min<long long>(INT_MAX, time.count())));
    }

    static std::chrono::nanoseconds ns(const Json &stamp) {
        return std::chrono::nanoseconds(stamp.integer());
    }

    int check(int code) const {
        if (code < 0)
            throw failure(code, 0);
        return code;
    }

    /* An error without a response. The code alone says how a wait ended; the handle's sentence may be another thread's by now, or gone. */
    Error failure(int code, int request) const {
        const bool known = code == IBLB_E_TIMEOUT || code == IBLB_E_CANCELLED || code == IBLB_E_CLOSED || code == IBLB_E_HANDLE;
        return Error(code, known ? error_text(code) : last_error(), request);
    }

    /* Calls with a buffer that grows until what is wanted fits. */
    template <class Function> static int fill(std::vector<char> &json, Function function) {
        int needed = 0, code;
        while ((code = function(json.data(), static_cast<int>(json.size()), &needed)) == IBLB_E_BUFFER)
            json.resize(static_cast<std::size_t>(needed));
        return code;
    }

    /* The one place where a status and a body become a response or an error. */
    Response outcome(int code, const char *json, int request) const {
        if (!*json) {
            if (code < 0)
                throw failure(code, code == IBLB_E_TIMEOUT || code == IBLB_E_NO_WORKER || code == IBLB_E_PENDING ? request : 0);
            return Response();
        }
        Response response = read_response(json);
        if (code >= 0)
            return response;
        /* Its own sentence: that of the handle may be another thread's by now. */
        const std::string sentence = response.error.empty() ? error_text(code) : response.error;
        throw Error(code, sentence, 0, std::make_shared<const Response>(std::move(response)));
    }

    static Response read_response(const char *json) {
        Response response;
        response.json = json;
        const Json body = Json::parse(response.json);
        response.request = static_cast<int>(body["request"].integer());
        response.command_id = body["command_id"].text();
        response.message = body["message"].text();
        response.code = static_cast<int>(body["code"].integer());
        response.error = body["error"].text();
        response.wall = body["wall"].text();
        response.sent = ns(body["sent"]);
        response.accepted = ns(body["accepted"]);
        response.finished = ns(body["finished"]);
        for (const Json &entry : body["services"].values()) {
            Service service;
            service.name = entry["name"].text();
            service.ok = entry["ok"].truth();
            service.state = entry["state"].text();
            service.reason = entry["reason"].text();
            service.error = entry["error"].text();
            service.data = entry["data"];
            if (entry["status"].kind() == Json::Kind::Number)
                service.status = static_cast<int>(entry["status"].integer());
            service.sent = ns(entry["sent"]);
            service.echoed = ns(entry["echoed"]);
            service.answered = ns(entry["answered"]);
            response.services.push_back(std::move(service));
        }
        return response;
    }

    std::atomic<int> handle_;
    std::atomic<int> warning_;
    std::shared_ptr<std::atomic<unsigned>> interrupts_; /* how many were taken */
    const int passing_;                                 /* exceptions in flight when it was made */
};

} // namespace iblbridge

#endif
