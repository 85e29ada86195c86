/* json.cpp: reads each line of standard input as JSON and prints what it read, one token after the other; or why it refuses. */
#include <iostream>
#include <string>

#include "iblbridge.hpp"

using iblbridge::Json;

static void print(const Json &value) {
    switch (value.kind()) {
    case Json::Kind::Null:
        std::cout << "null";
        break;
    case Json::Kind::Boolean:
        std::cout << (value.truth() ? "true" : "false");
        break;
    case Json::Kind::Number:
        std::cout << (value.text().find_first_of(".eE") == std::string::npos ? std::to_string(value.integer()) : value.text());
        break;
    case Json::Kind::Text:
        std::cout << iblbridge::quote(value.text());
        break;
    default:
        const bool object = value.kind() == Json::Kind::Object;
        std::cout << (object ? "{" : "[");
        for (std::size_t i = 0; i < value.values().size(); i++) {
            std::cout << (i ? "," : "");
            if (object)
                std::cout << iblbridge::quote(value.keys()[i]) << ":";
            print(value.values()[i]);
        }
        std::cout << (object ? "}" : "]");
    }
}

int main() {
    for (std::string line; std::getline(std::cin, line); std::cout << std::endl) {
        try {
            print(Json::parse(line));
        } catch (const std::invalid_argument &error) {
            std::cout << "refused: " << error.what();
        }
    }
    return 0;
}
