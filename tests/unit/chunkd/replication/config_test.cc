// SPDX-License-Identifier: Apache-2.0
#include "chunkd/config.h"

#include <doctest/doctest.h>

using namespace lumeofs;

namespace {

std::string error_of(const std::string& more) {
    auto config = chunkd::parse_chunkd_config(
        R"({"node_id": 11, "data_dir": "/d", "master_address": "h1:9100, h2:9100")" + more + "}",
        "c.json");
    return config.is_ok() ? "" : std::string(config.status().text());
}

}  // namespace

TEST_CASE("chunkd configuration: defaults, and one clear line for each mistake") {
    CHECK(error_of("") == "");
    CHECK(error_of(R"(, "wal_sync_mode": "async")").find("is refused because") != std::string::npos);
    CHECK(error_of(R"(, "heartbeat_interval": 5000)") ==
          "c.json: \"heartbeat_interval\": 5000 is not allowed; allowed is a whole number from 100 to 3000");
    CHECK(error_of(R"(, "colour": 1)").find("unknown key") != std::string::npos);
    auto bad = chunkd::parse_chunkd_config(
        R"({"node_id": 11, "data_dir": "d", "master_address": "h1"})", "c.json");
    CHECK(bad.status().text().find("\"data_dir\"") != std::string::npos);
    auto good = chunkd::parse_chunkd_config(
        R"({"node_id": 11, "data_dir": ["/a", "/b"], "master_address": "h1:1,h2:2"})", "c.json");
    REQUIRE(good.is_ok());
    CHECK(good->masters == std::vector<std::string>{"h1:1", "h2:2"});
    CHECK(good->data_dirs.size() == 2);
    CHECK(good->listen_address() == "127.0.0.1:10101");
}
