// SPDX-License-Identifier: Apache-2.0
#include "common/config/json_config.h"

#include <doctest/doctest.h>

using namespace lumeofs;

namespace {

std::string error_of(std::string_view text) {
    auto json = JsonConfig::parse(text, "f.json");
    if (!json.is_ok()) return std::string(json.status().text());
    json->required_number("node_id", 1, 100);
    json->number("port", 9100, 0, 65535);
    json->text("zone", "");
    json->texts("data_dir");
    auto log = json->section("log");
    log.choice("level", "info", {"info", "warn"});
    for (JsonConfig& peer : json->sections("peers")) peer.required_text("address");
    return std::string(json->finish().text());
}

}  // namespace

TEST_CASE("values, defaults, lists and sections") {
    auto json = JsonConfig::parse(
        R"({"port": 7, "data_dir": "/a", "more": ["/b", "/c"], "on": true, "log": {"level": "warn"}})",
        "f.json");
    REQUIRE(json.is_ok());
    CHECK(json->number("port", 1, 0, 10) == 7);
    CHECK(json->number("other", 5, 0, 10) == 5);
    CHECK(json->texts("data_dir") == std::vector<std::string>{"/a"});
    CHECK(json->texts("more") == std::vector<std::string>{"/b", "/c"});
    CHECK(json->flag("on", false));
    CHECK(json->section("log").choice("level", "info", {"info", "warn"}) == "warn");
    CHECK(json->finish().is_ok());
}

TEST_CASE("each mistake is one line that names file, key, value and what is allowed") {
    CHECK(error_of(R"({"node_id": 1})") == "");
    CHECK(error_of("{") == "f.json: is not valid JSON");
    CHECK(error_of("[]") == "f.json: must be one JSON object");
    CHECK(error_of(R"({"node_id": 1, "node_id": 2})") == "f.json: \"node_id\" stands there twice");
    CHECK(error_of("{}") == "f.json: \"node_id\" is missing; it must be a whole number from 1 to 100");
    CHECK(error_of(R"({"node_id": "x"})") ==
          "f.json: \"node_id\": \"x\" is not allowed; allowed is a whole number from 1 to 100");
    CHECK(error_of(R"({"node_id": 1, "port": -1})") ==
          "f.json: \"port\": -1 is not allowed; allowed is a whole number from 0 to 65535");
    CHECK(error_of(R"({"node_id": 1, "log": {"level": "loud"}})") ==
          "f.json: \"log.level\": \"loud\" is not allowed; allowed is one of \"info\", \"warn\"");
    CHECK(error_of(R"({"node_id": 1, "log": {"colour": 1}})") ==
          "f.json: \"log.colour\": 1 is an unknown key; allowed are: level");
    CHECK(error_of(R"({"node_id": 1, "peers": [{}]})") ==
          "f.json: \"peers[0].address\" is missing; it must be a text");
    CHECK(error_of(R"({"node_id": 1, "data_dir": [1]})") ==
          "f.json: \"data_dir\": [1] is not allowed; allowed is a text or a list of texts");
}
