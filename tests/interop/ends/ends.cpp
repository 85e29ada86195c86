/* ends.cpp: what test_ends.py asks of every client, with the C++ one. */
#include <cstdlib>

#include "iblbridge.hpp"

using iblbridge::Client;

struct Cleans {
    ~Cleans() { /* while an exception passes, but this client begins and ends in it */
        Client rig("rig0", "closed");
    }
};

int main() {
    Client("rig0", "closed").close();
    {
        Client rig("rig0", "closed");
        Client moved(std::move(rig));
    }
    try {
        Cleans cleans;
        throw 1;
    } catch (int) {
        Client rig("rig0", "closed");
    }
    Client("rig0", "abandoned").abandon();
    try {
        Client rig("rig0", "thrown");
        throw 1;
    } catch (int) {
    }
    new Client("rig0", "left");
    std::exit(0);
}
