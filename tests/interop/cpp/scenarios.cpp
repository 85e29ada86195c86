/* scenarios.cpp: what scenarios.py asks of every client, with the C++ one. */
#include <atomic>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <thread>

#include "iblbridge.hpp"

using iblbridge::arguments;
using iblbridge::Client;
using iblbridge::Error;
using iblbridge::quote;
using iblbridge::Response;
using std::chrono::milliseconds;
using std::chrono::minutes;

static void say(const std::string &json) {
    std::cout << json << std::endl;
}

static std::string list(std::initializer_list<std::string> values) {
    std::string json = "[";
    for (const std::string &value : values)
        json += (json.size() > 1 ? "," : "") + value;
    return json + "]";
}

static std::string text(long long number) {
    return std::to_string(number);
}

static std::string first_value(const iblbridge::Service &service) {
    return service.data["value"][0].text();
}

static Error failure(const std::function<void()> &command) {
    try {
        command();
    } catch (const Error &error) {
        return error;
    }
    return Error(0, "there was no error");
}

static void say_error(const std::function<void()> &command) {
    const Error error = failure(command);
    std::string services = "null";
    if (error.response()) {
        services = "";
        for (const iblbridge::Service &service : error.response()->services)
            services += (services.empty() ? "" : ",") +
                        list({quote(service.name), service.ok ? "true" : "false", quote(service.state), quote(first_value(service))});
        services = "[" + services + "]";
    }
    say(list({text(error.code()), quote(error.name()), quote(error.sentence()), text(error.request()), services}));
}

static void codes(const std::string &) {
    std::string json;
    for (int code = -9999; code < 10000; code++)
        if (!iblbridge::error_text(code).empty())
            json += (json.empty() ? "" : ",") + quote(text(code)) + ":" + quote(iblbridge::error_name(code));
    say("{" + json + "}");
}

static void errors(const std::string &segment) {
    Client rig(segment, "errors");
    say_error([&] { rig.call(IBLB_EXPSTART, arguments("2026-01-01_1_Mäuschen→x🐭")); });
    say_error([&] { rig.call(IBLB_PING, "", "né🐭"); });
    say_error([&] { rig.wait(12345); });
    say_error([&] { Client("nowhere", "", milliseconds(0)); });
}

static void reasons(const std::string &segment) {
    Client rig(segment, "reasons");
    const Error error = failure([&] { rig.call(IBLB_EXPINIT); });
    std::string services;
    for (const iblbridge::Service &service : error.response()->services)
        services += (services.empty() ? "" : ",") + list({quote(service.name), quote(service.reason), text(service.status)});
    say("[" + services + "]");
}

static void surface(const std::string &segment) {
    Client rig(segment);
    rig.subscribe(IBLB_EXPINTERRUPT);
    const iblbridge::WorkerState state = rig.worker_state();
    say(list({state.alive ? "true" : "false", text(state.services)}));
    Response response = rig.call(IBLB_EXPSTATUS, "", "ephys");
    say(list({quote(response.message), text(response.code), list({quote(response.services.at(0).name)})}));
    const auto before = iblbridge::now();
    response = rig.wait(rig.send(IBLB_EXPSTART, arguments("2026-01-01_1_subject"), "", minutes(1)));
    const iblbridge::Service &ephys = response["ephys"];
    const bool ordered = before < response.sent && response.sent <= response.accepted && response.accepted <= ephys.sent &&
                         ephys.sent < ephys.echoed && ephys.echoed <= ephys.answered && ephys.answered <= response.finished &&
                         response.finished < iblbridge::now();
    say(ordered && response.wall.size() > 20 ? "true" : "false");
    iblbridge::Event event;
    rig.next_event(event, minutes(1));
    say(list({quote(event.event), text(event.message), quote(event.service), text(event.sequence)}));
    say(rig.next_event(event, milliseconds(1)) ? "false" : "true");
    rig.notify(IBLB_EXPEND);
    say("\"notified\"");
}

static void large(const std::string &segment) {
    Client rig(segment, "large");
    std::string reference;
    for (int i = 0; i < 4000; i++)
        reference += "é";
    const auto whole = [&](const Response &response) {
        int count = 0;
        for (const iblbridge::Service &service : response.services)
            count += first_value(service) == reference ? 1 : 0;
        return count;
    };
    const int called = whole(rig.call(IBLB_EXPSTART, arguments(reference)));
    say(list({text(called), text(whole(rig.wait(rig.send(IBLB_EXPSTART, arguments(reference)))))}));
}

static void exact(const std::string &segment) {
    Client rig(segment, "exact");
    const std::string low = arguments(9007199254740993LL, -9007199254740993LL, INT64_MAX, INT64_MIN);
    const std::string all = "[[" + low.substr(1, low.size() - 2) + "," + arguments(UINT64_MAX, 9007199254740991LL).substr(1) + "]";
    const Response response = rig.call(IBLB_EXPINIT, all);
    std::string said;
    for (const iblbridge::Json &number : response.services[0].data["value"].values())
        said += (said.empty() ? "" : ",") + quote(number.text());
    say("[" + said + "]");
    say(response.services[0].data["value"][2].integer() == INT64_MAX && response.finished.count() > 0 ? "true" : "false");
}

/* What JSON cannot express is no argument. */
static void unsayable(const std::string &) {
    const auto refused = [](const std::function<void()> &write) {
        try {
            write();
        } catch (const std::invalid_argument &error) {
            return quote(error.what());
        }
        return quote("written");
    };
    const double none = std::numeric_limits<double>::quiet_NaN(), endless = std::numeric_limits<double>::infinity();
    say(list({refused([&] { arguments("x", none); }), refused([&] { arguments(-endless); }),
              refused([&] { arguments(static_cast<float>(endless)); }),
              refused([&] { arguments(std::numeric_limits<long double>::max()); }), refused([&] { arguments(1e308, 5, 'c'); })}));
}

/* A name that C would see the beginning of only, in every place where one is given. */
static void cut(const std::string &segment) {
    const std::string name = "cut", longer = name + '\0' + "short";
    Client rig(segment, name);
    const auto refused = [](const std::function<void()> &use) {
        try {
            use();
        } catch (const std::invalid_argument &error) {
            return quote(error.what());
        }
        return quote("taken");
    };
    say(list({refused([&] { Client(segment, longer); }), refused([&] { Client(segment + '\0', "other"); }),
              refused([&] { rig.call(IBLB_EXPEND, "", longer); }), refused([&] { rig.send(IBLB_EXPEND, "", longer); }),
              refused([&] { rig.notify(IBLB_EXPEND, "", longer); }), refused([&] { rig.send(IBLB_EXPEND, std::string("[1]\0]", 5)); })}));
}

static void lists(const std::string &) {
    const std::map<std::string, std::vector<bool>> object = {{"a \"b\"", {true, false}}, {"none", {}}};
    const std::vector<std::map<std::string, std::map<std::string, double>>> list = {{{"deep", {{"x", 0.5}}}}, {}};
    say(arguments("text", object, list, std::vector<std::string>{"c", "\n"}, std::vector<std::vector<int>>{{1, 2}, {}}));
    say(arguments(std::vector<const char *>{"alone", nullptr}));
}

static void many(const std::string &segment) {
    Client rig(segment, "many");
    std::atomic<int> right(0);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; thread++)
        threads.emplace_back([&, thread] {
            for (int i = 0; i < 5; i++) {
                const std::string reference = text(thread) + "-" + text(i);
                for (const iblbridge::Service &service : rig.call(IBLB_EXPSTART, arguments(reference)).services)
                    right += first_value(service) == reference ? 1 : 0;
            }
        });
    for (std::thread &thread : threads)
        thread.join();
    say(text(right));
}

static void cancel(const std::string &segment) {
    Client rig(segment, "cancel");
    const int request = rig.send(IBLB_EXPINIT);
    const Error slow = failure([&] { rig.wait(request, milliseconds(20)); });
    std::thread other([&] {
        std::this_thread::sleep_for(milliseconds(20)); /* most likely the wait has begun; either way it ends */
        rig.cancel(request);
    });
    const Error error = failure([&] { rig.wait(request, minutes(1)); });
    other.join();
    const bool right = slow.code() == IBLB_E_TIMEOUT && slow.request() == request && !error.request() &&
                       (error.code() == IBLB_E_CANCELLED || error.code() == IBLB_E_REQUEST);
    say(right ? "\"cancelled\"" : quote(error.what()));
    say(text(rig.call(IBLB_PING).code));
}

static void late(const std::string &segment) {
    Client rig(segment, "late");
    for (int i = 0; i < 2; i++) {
        const Error error = failure([&] { rig.call(IBLB_EXPINIT, "", "", milliseconds(300)); });
        say(list({text(error.code()), text(error.request())}));
    }
}

static void negative(const std::string &segment) {
    const milliseconds none(-1);
    Client rig(segment, "negative");
    iblbridge::Event event;
    std::string names;
    const std::function<void()> waits[] = {[&] { rig.call(IBLB_EXPSTART, "", "", none); }, [&] { rig.wait(1, none); },
                                           [&] { rig.next_event(event, none); }, [&] { Client(segment, "other", none); }};
    const int before = rig.send(IBLB_PING);
    for (const std::function<void()> &wait : waits)
        names += (names.empty() ? "" : ",") + quote(failure(wait).name());
    say("[" + names + "]");
    say(text(rig.send(IBLB_PING) - before - 1));
}

static void close(const std::string &segment) {
    Client rig(segment, "close");
    const int request = rig.send(IBLB_EXPINIT);
    int waited = 0, watched = 0;
    std::atomic<int> begun(0);
    std::thread response([&] { waited = failure([&] { begun++, rig.wait(request, minutes(1)); }).code(); });
    std::thread event([&] {
        iblbridge::Event unused;
        watched = failure([&] { begun++, rig.next_event(unused, minutes(1)); }).code();
    });
    while (begun < 2)
        std::this_thread::yield();
    std::this_thread::sleep_for(milliseconds(300)); /* and are in the library by now */
    rig.close();
    response.join();
    event.join();
    rig.close();
    say(list({text(waited), text(watched)}));
    say(text(failure([&] { rig.call(IBLB_PING); }).code()));
}

static void slots(const std::string &segment) {
    int opened = 0;
    for (int i = 0; i < 20; i++) {
        Client rig(segment, "slots-" + text(i));
        Client taken(std::move(rig)), other(segment, "other-" + text(i));
        opened += taken.worker_state().alive && !rig.handle() ? 1 : 0;
        other = std::move(taken); /* what it was is closed */
        opened += other.call(IBLB_PING).code == 0 ? 1 : 0;
    }
    say(text(opened));
}

static void death(const std::string &segment) {
    Client rig(segment, "death");
    const int request = rig.send(IBLB_EXPINIT, "", "", milliseconds(-1));
    say(text(request));
    const Error lost = failure([&] { rig.wait(request, minutes(1)); });
    say(list({text(lost.code()), quote(lost.name()), text(lost.request())}));
    iblbridge::Event event;
    say(text(failure([&] { rig.next_event(event, minutes(1)); }).code()));
    while (!rig.worker_state().alive)
        std::this_thread::sleep_for(milliseconds(5));
    const Error unknown = failure([&] { rig.wait(request, minutes(1)); });
    say(list({text(unknown.code()), text(unknown.request())}));
}

static void killed(const std::string &segment) {
    Client rig(segment, "killed");
    say(quote("calls"));
    const Error error = failure([&] { rig.call(IBLB_EXPINIT, "", "", minutes(1)); });
    say(list({text(error.code()), quote(error.what()), text(error.request())}));
}

static void alone(const std::string &segment) {
    Client rig(segment, "alone", milliseconds(100));
    say(list({text(rig.warning()), rig.worker_state().alive ? "true" : "false"}));
    const Error error = failure([&] { rig.call(IBLB_EXPSTART, arguments("2026-01-01_1_subject"), "", minutes(1)); });
    say(list({text(error.code()), text(error.request())}));
    while (!rig.worker_state().alive)
        std::this_thread::sleep_for(milliseconds(5));
    say(text(rig.call(IBLB_EXPINIT).code));
}

int main(int, char **words) {
    const std::map<std::string, void (*)(const std::string &)> scenarios = {
        {"codes", codes},   {"errors", errors},     {"reasons", reasons}, {"surface", surface},     {"large", large},   {"many", many},
        {"cancel", cancel}, {"close", close},       {"slots", slots},     {"death", death},         {"killed", killed}, {"alone", alone},
        {"late", late},     {"negative", negative}, {"exact", exact},     {"unsayable", unsayable}, {"cut", cut},       {"lists", lists}};
    scenarios.at(words[1])(words[2]);
    return 0;
}
