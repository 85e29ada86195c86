/* json.cpp: reads each line of standard input as JSON and prints what it read, one token after the other; or why it refuses. */
#include <cstdint>
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

/* What is not there reads as null, "", 0 and false, wherever one looks. */
static int missing() {
    int wrong = 0;
    const int place = 3;
    for (const char *text : {"null", "true", "7", "\"text\"", "[]", "{}", "[1]", "{\"a\": [1]}"}) {
        const Json json = Json::parse(text);
        for (const Json &none : {json["b"], json[1], json[place], json[SIZE_MAX], json["b"]["c"], json["b"][0][0], json[1]["b"][2]})
            wrong += none.kind() != Json::Kind::Null || none.text() != "" || none.integer() || none.number() > 0 || none.truth() ||
                     !none.values().empty() || !none.keys().empty();
    }
    const Json json = Json::parse("{\"a\": [1, [2, 3]], \"c\": 4}");
    wrong += json["a"][0].integer() == 1 && json["a"][1][1].integer() == 3 && json[1].integer() == 4 ? 0 : 1;
    return wrong;
}

int main(int count, char **) {
    if (count > 1)
        return missing();
    for (std::string line; std::getline(std::cin, line); std::cout << std::endl) {
        try {
            print(Json::parse(line));
        } catch (const std::invalid_argument &error) {
            std::cout << "refused: " << error.what();
        }
    }
    return 0;
}
