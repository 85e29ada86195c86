/* camera.cpp: a simulated camera that masters command: your program as a service, in C++. Put your device in its place.
 *
 *     camera SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]
 *
 * EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops it
 * at once, also while it warms up. With DIES_AFTER_S it dies in the middle of a recording, and says so. Ctrl-C ends it.
 * README.md tells how to build and run it.
 */
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

#include "iblbridge.hpp"

using iblbridge::Client;
using iblbridge::Command;
using iblbridge::object;

static const std::chrono::milliseconds LOOK(20); /* in one wait: the camera is looked after in between */
static const double FRAMES_PER_S = 100;
static volatile std::sig_atomic_t ended = 0;

static double seconds() {
    return std::chrono::duration<double>(iblbridge::now()).count();
}

/* What becomes of a command. */
static void report(const Command &command, bool in_time) {
    std::cout << command.message << ": ";
    if (!in_time)
        std::cout << "too late, its master was told that it failed" << std::endl;
    else if (!command.error().empty())
        std::cout << "failed, " << command.error() << std::endl;
    else
        std::cout << "done" << std::endl;
}

class Camera {
  public:
    Camera(double warm_up, double dies_after) : warm_up_(warm_up), dies_after_(dies_after) {
    }

    /* Does what a master asks at once, or keeps the command until it is done. */
    void obey(Command &command) {
        std::cout << command.message << " from " << command.master << std::endl;
        if (warming_.is_open() && command.message_number == IBLB_EXPINTERRUPT)
            report(warming_, warming_.fail("An EXPINTERRUPT overtook this " + warming_.message + "."));
        if (command.message_number == IBLB_EXPINIT) {
            warm_at_ = seconds() + warm_up_;
            warming_ = std::move(command);
        } else {
            const bool in_time = command.attempt([&] { return work(command); });
            report(command, in_time);
        }
    }

    /* What goes on while nothing is asked. */
    void live(Client &rig) {
        if (warming_.is_open() && seconds() >= warm_at_) {
            is_warm_ = true;
            report(warming_, warming_.answer());
        }
        if (records_ && dies_after_ > 0 && seconds() >= since_ + dies_after_) {
            is_warm_ = false;
            rig.tell(IBLB_EXPINTERRUPT, object("why", "The camera died.", "frames", stop()));
        }
    }

  private:
    std::string work(const Command &command) {
        if (command.message_number != IBLB_EXPSTART) /* EXPEND, EXPINTERRUPT, EXPCLEANUP */
            return object("frames", stop());
        if (!is_warm_)
            throw std::runtime_error("The camera is cold. Send EXPINIT first.");
        records_ = true;
        since_ = seconds();
        return object("file", command.args[0].text() + ".avi");
    }

    int stop() {
        if (records_)
            frames_ = static_cast<int>((seconds() - since_) * FRAMES_PER_S);
        records_ = false;
        return frames_;
    }

    const double warm_up_, dies_after_;
    Command warming_; /* an EXPINIT that is answered when the camera is warm; unanswered, it fails at the end */
    double warm_at_ = 0, since_ = 0;
    bool is_warm_ = false, records_ = false;
    int frames_ = 0;
};

int main(int count, char **arguments) {
    if (count < 2 || count > 5) {
        std::cerr << "usage: " << arguments[0] << " SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]" << std::endl;
        return 2;
    }
    std::signal(SIGINT, [](int) { ended = 1; });
    try {
        Client rig(arguments[1], "camera");
        Camera camera(count > 3 ? std::atof(arguments[3]) : 0.1, count > 4 ? std::atof(arguments[4]) : 0);
        Command command;
        rig.serve(count > 2 ? arguments[2] : "");
        std::cout << "serving " << (count > 2 ? arguments[2] : "the listener") << " at " << arguments[1] << std::endl;
        while (!ended) {
            if (rig.next_command(command, LOOK))
                camera.obey(command);
            camera.live(rig);
        }
        return 0;
    } catch (const iblbridge::Error &error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}
