/* experiment.cpp: a whole experiment from C++. What an acquisition program does, without the acquisition.
 *
 *     experiment SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]
 *
 * Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends the
 * experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how to build
 * and run it.
 */
#include <chrono>
#include <iostream>
#include <string>

#include "iblbridge.hpp"

using iblbridge::Client;
using iblbridge::Error;
using iblbridge::Response;
using std::chrono::milliseconds;

static const milliseconds QUESTION(100);    /* for a question that is not worth waiting for */
static const milliseconds EXPERIMENT(1000); /* how long the animal works */
static const milliseconds LOOK(200);        /* in one wait: so the program can be stopped in between */

/* The experiment it belongs to; a service may say anything about itself. */
static std::string reference(const iblbridge::Json &info) {
    return info["exp_ref"].text().empty() ? "no experiment" : info["exp_ref"].text();
}

/* What each service did, or what it said of itself. */
static void print(const Response &response) {
    for (const iblbridge::Service &service : response.services) {
        std::cout << "  " << service.name << ": ";
        if (!service.error.empty())
            std::cout << service.state << ", " << service.error << std::endl;
        else if (response.message == "EXPINFO" && service.status >= 0)
            std::cout << "status " << service.status << ", " << reference(service.data["info"]) << std::endl;
        else
            std::cout << service.state << std::endl;
    }
}

static void report(const std::string &name, const Response &response) {
    if (response.code > 0) /* such as IBLB_W_STATUS: a service was told EXPEND, and says that it still runs */
        std::cout << name << ": warning (" << response.code << "): " << response.error << std::endl;
    else
        std::cout << name << ": done" << std::endl;
    print(response);
}

static void report(const std::string &name, const Error &error) {
    std::cout << name << ": failed (" << error.code() << "): " << error.sentence() << std::endl;
    if (error.response())
        print(*error.response());
}

/* Sends a command to all services and waits until each has done it. Returns whether none failed. */
static bool tell(Client &rig, const std::string &name, int message, const std::string &arguments = "") {
    try {
        report(name, rig.call(message, arguments));
        return true;
    } catch (const Error &error) {
        report(name, error);
        return false;
    }
}

/* Asks something that is given up if the answer takes too long. */
static bool ask(Client &rig, const std::string &name, int message) {
    try {
        report(name, rig.wait(rig.send(message), QUESTION));
        return true;
    } catch (const Error &error) {
        if (error.code() != IBLB_E_TIMEOUT) {
            report(name, error);
            return false;
        }
        rig.cancel(error.request());
        std::cout << name << ": cancelled" << std::endl;
        return true;
    }
}

/* Here the animal works; returns early if a service gives up. */
static void watch(Client &rig) {
    iblbridge::Event event;
    try {
        for (const auto end = iblbridge::now() + EXPERIMENT; iblbridge::now() < end;) {
            if (rig.next_event(event, LOOK)) {
                std::cout << "event " << event.event << " from " << event.service << std::endl;
                return;
            }
        }
    } catch (const Error &error) {
        report("event", error);
    }
}

static bool experiment(Client &rig, const std::string &reference) {
    rig.subscribe(IBLB_EXPINTERRUPT);
    if (!tell(rig, "EXPINIT", IBLB_EXPINIT))
        return false;
    bool fine = tell(rig, "EXPSTART", IBLB_EXPSTART, iblbridge::arguments(reference));
    if (fine) {
        watch(rig);
        fine = ask(rig, "EXPSTATUS", IBLB_EXPSTATUS) && tell(rig, "EXPINFO", IBLB_EXPINFO) && tell(rig, "EXPEND", IBLB_EXPEND);
    }
    if (!fine) { /* a camera may run, even if no answer came */
        tell(rig, "EXPINTERRUPT", IBLB_EXPINTERRUPT);
        return false;
    }
    return tell(rig, "EXPCLEANUP", IBLB_EXPCLEANUP);
}

int main(int count, char **arguments) {
    if (count < 2 || count > 4) {
        std::cerr << "usage: " << arguments[0] << " SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]" << std::endl;
        return 2;
    }
    try {
        Client rig(arguments[1], count > 3 ? arguments[3] : "experiment");
        if (rig.warning()) {
            std::cerr << rig.last_error() << " (" << rig.warning() << ")" << std::endl;
            return 1;
        }
        return experiment(rig, count > 2 ? arguments[2] : "2026-01-01_1_subject") ? 0 : 1;
    } catch (const Error &error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}
