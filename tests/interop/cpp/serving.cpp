/* What becomes of commands in C++, however their scope ends. Each line says what was answered to what; test_cpp.py is the master. */
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <thread>

#include "iblbridge.hpp"

using iblbridge::Client;
using iblbridge::Command;
using iblbridge::Error;
using iblbridge::object;

static Command next(Client &rig) {
    Command command;
    while (!rig.next_command(command, std::chrono::milliseconds(100)))
        ;
    std::cout << command.message << std::endl;
    return command;
}

static void throwing(Client &rig) {
    const Command command = next(rig);
    throw std::runtime_error("its words are lost");
}

int main(int, char **words) {
    Client rig(words[1], "serving");
    if (std::string(words[2]) != "all") { /* a file that is there when it is too late */
        rig.serve();
        Command command = next(rig);
        while (!std::ifstream(words[2]))
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        std::cout << (command.answer() ? "in time" : "too late") << std::endl;
        return 0;
    }
    for (const char *service : {"ephys", "camera"}) {
        try {
            rig.serve(service);
        } catch (const Error &error) {
            std::cout << error.name() << std::endl;
        }
    }
    rig.serve("cameras");
    std::cout << "serves" << std::endl;

    { /* a scope that ends */
        const Command command = next(rig);
    }
    try { /* by an exception */
        throwing(rig);
    } catch (const std::runtime_error &) {
    }
    { /* another one in its place */
        Command command = next(rig);
        command = next(rig);
        command.fail("Kamera 2 l\xC3\xA4uft nicht.");
    }
    { /* moved on, to another thread */
        Command command = next(rig), kept = std::move(command);
        std::thread thread([&kept] { kept.answer(IBLB_STATUS_STOPPED, object("file", "a \"b\"", "frames", 12, "fine", true)); });
        thread.join();
        std::cout << (kept.is_open() || command.is_open() ? "open" : "answered") << std::endl;
        try {
            kept.answer();
        } catch (const Error &error) {
            std::cout << error.name() << std::endl;
        }
    }
    { /* data that are none, and then an answer */
        Command command = next(rig);
        try {
            command.answer(-1, "{");
        } catch (const Error &error) {
            std::cout << error.name() << std::endl;
        }
        command.answer(-1, iblbridge::arguments(command.args[0].text(), command.timeout_ms.count()));
    }
    for (int i = 0; i < 2; i++) { /* what throws, and what does not */
        Command command = next(rig);
        command.attempt([&]() -> std::string {
            if (command.args[0]["a"].integer() == 3)
                throw std::runtime_error("the lens is gone");
            return object("a", 4);
        });
        std::cout << command.error() << std::endl;
    }
    { /* an interrupt beside it */
        Command command = next(rig), other = next(rig);
        std::cout << command.interrupted() << other.interrupted() << std::endl;
        other.answer();
        command.fail("interrupted");
    }
    rig.tell(IBLB_EXPSTATUS, "10");
    rig.serve("", 0);
    try {
        Command command;
        rig.next_command(command, std::chrono::milliseconds(0));
    } catch (const Error &error) {
        std::cout << error.name() << std::endl;
    }
    return 0;
}
