// SPDX-License-Identifier: Apache-2.0
#include "cli/dev_layout.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <set>
#include <tuple>

#include "cli/format.h"
#include "cli/process.h"

using namespace lumeofs;
using namespace lumeofs::cli;

TEST_CASE("every daemon has its own node, port and files") {
    DevShape shape;
    shape.metads = 5;
    shape.chunkds = 7;
    const auto daemons = daemons_of("/dir", shape);
    CHECK(daemons.size() == 12);
    std::set<std::string> names, data;
    std::set<uint16_t> ports;
    std::set<uint64_t> nodes;
    for (const DevDaemon& daemon : daemons) {
        CHECK(names.insert(daemon.name).second);
        CHECK(data.insert(daemon.data_dir).second);
        CHECK(ports.insert(daemon.port).second);
        CHECK(nodes.insert(daemon.node).second);
    }
    CHECK(daemons[0].config_file == "/dir/metad1.json");
    CHECK(daemons[5].name == "chunkd1");
    CHECK(daemons[5].program == "lumeofs-chunkd");
}

TEST_CASE("few chunkds lower the replicas") {
    DevShape shape;
    for (const auto& [chunkds, replicas, least] :
         {std::tuple{1, "1", "1"}, std::tuple{2, "2", "2"}, std::tuple{4, "3", "2"}}) {
        shape.chunkds = static_cast<uint32_t>(chunkds);
        const std::string config = daemons_of("/d", shape)[0].config;
        CHECK(config.find(std::string("\"default_replicas\": ") + replicas) != std::string::npos);
        CHECK(config.find(std::string("\"min_write_replicas\": ") + least) != std::string::npos);
    }
}

TEST_CASE("the shape is kept and checked") {
    DevShape shape;
    shape.chunkds = 4;
    shape.mount = "/m";
    auto again = parse_shape(shape_text(shape), "f");
    REQUIRE(again.is_ok());
    CHECK(again->chunkds == 4);
    CHECK(again->mount == "/m");
    for (const char* bad : {"", "{", "[]", "{\"metads\":3}"}) {
        CHECK(parse_shape(bad, "f").code() == Errc::config);
    }
    shape.metads = 2;
    CHECK(check_shape(shape).code() == Errc::config);
    CHECK(parse_shape(shape_text(shape), "f").code() == Errc::config);
    shape.metads = 3;
    shape.base_port = 65'500;
    CHECK(check_shape(shape).code() == Errc::config);
}

TEST_CASE("the manifest's commands survive odd directories") {
    const std::string text = manifest_text("/bin/lumeofs", "/a'b c", DevShape{});
    CHECK(text.find("dev start chunkd3 --dir '/a'\\\\''b c'") != std::string::npos);
    CHECK(text.find("/a'b c/metad1.pid") != std::string::npos);
}

TEST_CASE("sizes and tables") {
    CHECK(size_text(0) == "0 B");
    CHECK(size_text(1023) == "1023 B");
    CHECK(size_text(1536) == "1.5 KiB");
    CHECK(size_text(UINT64_MAX) == "16.0 EiB");
    CHECK(table_text({{"A", "B"}, {"long", "x"}}) == "A     B\nlong  x\n");
}

TEST_CASE("a pid file is believed only with the right program and argument") {
    const std::string file = "/tmp/lumeofs_pid_test." + std::to_string(time_now());
    auto pid = start_program({{"sleep", "60"}, ""});
    REQUIRE(pid.is_ok());
    REQUIRE(write_whole_file(file, std::to_string(*pid) + "\n"));
    CHECK(running_pid(file, "sleep", "60") == *pid);
    CHECK(running_pid(file, "sleep", "61") == 0);
    CHECK(running_pid(file, "lumeofs-metad", "60") == 0);
    CHECK(end_process(*pid, kSecond));
    CHECK(running_pid(file, "sleep", "60") == 0);
    std::remove(file.c_str());
    CHECK(running_pid(file, "sleep", "60") == 0);
}
