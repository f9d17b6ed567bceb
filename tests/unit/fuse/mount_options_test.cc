// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount_options.h"

#include <doctest/doctest.h>

namespace lumeofs::fusefs {
namespace {

Result<MountOptions> parse(const std::string& source, const std::string& options = "") {
    std::vector<std::string> args{source, "/mnt"};
    if (!options.empty()) args.insert(args.end(), {"-o", options});
    return parse_mount_options(args);
}

// The one line for people.
std::string refusal(const std::string& source, const std::string& options = "") {
    const auto parsed = parse(source, options);
    return parsed.is_ok() ? "" : std::string(parsed.status().text());
}

bool says(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("hosts, ports and the directory of a source") {
    const auto parsed = parse("h1,h2:9200:/home/a");
    REQUIRE(parsed.is_ok());
    CHECK(parsed->client.metads.size() == 2);
    CHECK(parsed->client.metads[1] == "h2:9200");
    CHECK(parsed->client.subdir == "/home/a");
    CHECK(parsed->mount_point == "/mnt");
    CHECK(says(refusal("h1:http"), "'http' is no port"));
    CHECK(says(refusal("h1:0"), "'0' is no port"));
    CHECK(says(refusal(",h2:/x"), "a host is empty"));
}

TEST_CASE("numbers have bounds, and what is unknown is named") {
    const auto parsed = parse("h1", "soft,timeo=5,cache_mb=7,read_ahead_mb=0,_netdev,x-systemd.automount");
    REQUIRE(parsed.is_ok());
    CHECK(parsed->client.soft);
    CHECK(parsed->client.timeo == 5 * kSecond);
    CHECK(parsed->client.cache_limit == uint64_t{7} << 20);
    CHECK(parsed->client.read_ahead_max == 0);
    CHECK(says(refusal("h1", "timeo=0"), "a number from 1 to 86400"));
    CHECK(says(refusal("h1", "cache_mb=many"), "cache_mb=many"));
    CHECK(says(refusal("h1", "kernel_cache_ms=1001"), "a number from 0 to 1000"));
    CHECK(says(refusal("h1", "log_level=loud"), "one of trace"));
    CHECK(says(refusal("h1", "nonsense=1"), "unknown mount option 'nonsense=1'"));
}

TEST_CASE("the kernel keeps names and attributes for a short time if asked to, else not at all") {
    CHECK(parse("h1")->client.kernel_time == 0);
    CHECK(parse("h1", "kernel_cache_ms=0")->client.kernel_time == 0);
    CHECK(parse("h1", "kernel_cache_ms=250")->client.kernel_time == 250 * kMillisecond);
}

}  // namespace lumeofs::fusefs
