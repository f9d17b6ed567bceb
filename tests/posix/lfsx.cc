// SPDX-License-Identifier: Apache-2.0
// lfsx: random file operations on one file, checked against a copy of the file in memory.
//
// Every choice comes from --seed, so a failing run is repeated by its command line. The file lives
// in one directory, or is reached through several mounts of the same file system (--paths A,B):
// then every operation goes through a randomly chosen mount, with descriptors of its own, and the
// file system must show each mount what the others completed. After each operation the size is
// compared, every read compares all its bytes, and the whole file is compared at the end.
// A mismatch prints the last operations (those that touched the bad byte are marked) and exits 1.
// An operation that the file system refuses with EOPNOTSUPP is counted and skipped.
// single-thread: main.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/posix/lfsx_tester.h"

namespace lumeofs::lfsx {
namespace {

constexpr std::string_view kUsage =
    "usage: lfsx [options] DIR | lfsx [options] --paths DIR,DIR...\n"
    "  --seed N --ops N --max-size BYTES --max-io BYTES --base OFFSET\n"
    "  --no-mmap --no-direct --paths A,B (several mounts of one file system, without mmap)\n"
    "  --close-to-open (several mounts: close on one before using the next)\n"
    "  --hook COMMAND --hook-every N (run between operations)\n"
    "  --plant N (self-test: damage a byte before each operation from N on; must end\n"
    "            with exit status 1)\n";

[[noreturn]] void usage(const std::string& problem) {
    std::fprintf(stderr, "lfsx: %s\n%s", problem.c_str(), kUsage.data());
    std::exit(2);
}

void split_paths(std::string_view list, std::vector<std::string>& out) {
    while (!list.empty()) {
        size_t comma = std::min(list.find(','), list.size());
        out.emplace_back(list.substr(0, comma));
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
}

Options parse(const std::vector<std::string>& words) {
    Options options;
    for (size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        auto text = [&] {
            return i + 1 < words.size() ? words[++i]
                                        : (usage(word + " needs a value"), std::string());
        };
        auto number = [&] {
            std::string value = text();
            char* end = nullptr;
            unsigned long long parsed = std::strtoull(value.c_str(), &end, 0);
            if (value.empty() || *end != '\0') {
                usage(word + ": not a number: " + value);
            }
            return static_cast<uint64_t>(parsed);
        };
        if (word == "--seed")
            options.seed = number();
        else if (word == "--ops")
            options.ops = number();
        else if (word == "--max-size")
            options.max_size = number();
        else if (word == "--max-io")
            options.max_io = number();
        else if (word == "--base")
            options.base = static_cast<off_t>(number());
        else if (word == "--plant")
            options.plant = number();
        else if (word == "--no-mmap")
            options.use_mmap = false;
        else if (word == "--no-direct")
            options.use_direct = false;
        else if (word == "--close-to-open")
            options.close_to_open = true;
        else if (word == "--hook")
            options.hook = text();
        else if (word == "--hook-every")
            options.hook_every = number();
        else if (word == "--paths")
            split_paths(text(), options.paths);
        else if (word.starts_with("--"))
            usage("unknown option " + word);
        else
            options.paths.push_back(word);
    }
    if (options.paths.empty()) {
        usage("no directory given");
    }
    options.max_size = round_up(std::max<size_t>(options.max_size, kPage));
    options.max_io = std::clamp<size_t>(options.max_io, 1, options.max_size);
    options.base = options.base / static_cast<off_t>(kPage) * static_cast<off_t>(kPage);
    options.use_mmap = options.use_mmap && options.paths.size() == 1;
    return options;
}

}  // namespace
}  // namespace lumeofs::lfsx

int main(int argc, char** argv) {
    using namespace lumeofs::lfsx;
    Options options = parse(std::vector<std::string>(argv + 1, argv + argc));
    Tester tester(options);
    return tester.run();
}
