// SPDX-License-Identifier: Apache-2.0
#include "cli/arguments.h"

#include <doctest/doctest.h>

#include <cstdlib>

using namespace lumeofs;
using namespace lumeofs::cli;

TEST_CASE("a command with its options") {
    const Arguments up = parse_arguments({"dev", "up", "--chunkds", "5", "--dir", "/x"});
    CHECK(up.exit_status == -1);
    CHECK(up.command == "dev up");
    CHECK(up.dev.chunkds == 5);
    CHECK(!up.dev.metads.has_value());
    CHECK(up.dev.dir == "/x");
    const Arguments info = parse_arguments({"file", "info", "/a b", "--json"});
    CHECK(info.command == "file info");
    CHECK(info.cluster.path == "/a b");
    CHECK(info.cluster.json);
    const Arguments verify = parse_arguments({"verify", "here", "/there"});
    CHECK(verify.command == "verify");
    CHECK(verify.from == "here");
    CHECK(verify.to == "/there");
}

TEST_CASE("wrong arguments give one line and status 64") {
    const std::vector<std::vector<std::string>> wrong = {{},
                                                         {"nonsense"},
                                                         {"dev"},
                                                         {"dev", "up", "--metads", "x"},
                                                         {"dev", "up", "--base-port", "70000"},
                                                         {"dev", "start"},
                                                         {"upload", "one"},
                                                         {"status", "--metads", "h:0"}};
    for (const auto& args : wrong) {
        const Arguments out = parse_arguments(args);
        CHECK(out.exit_status == 64);
        CHECK(out.text.find('\n') == out.text.size() - 1);
    }
    CHECK(parse_arguments({"--help"}).exit_status == 0);
}

TEST_CASE("addresses of metads") {
    setenv("LUMEOFS_METADS", "e1,e2:1", 1);
    CHECK(parse_arguments({"status"}).cluster.metads ==
          std::vector<std::string>{"e1:9100", "e2:1"});
    CHECK(parse_arguments({"status", "--metads", "h"}).cluster.metads ==
          std::vector<std::string>{"h:9100"});
    CHECK(parse_arguments({"status", "--dir", "/d"}).cluster.metads.empty());
    unsetenv("LUMEOFS_METADS");
    CHECK(parse_arguments({"status"}).cluster.metads.empty());
    for (const char* bad : {"", ",", "h:", ":1", "h:65536", "h:1x", "h,"}) {
        CHECK(parse_metads(bad).code() == Errc::config);
    }
}
