// SPDX-License-Identifier: Apache-2.0
// posix_conformance: the cases of this folder against a directory of any file system. Each case
// holds on ext4, which is the reference.
//
//   posix_conformance [--full] [--list] [--quiet] [--jobs N] [--seconds N] [--second DIR] DIR
//   [PATTERN]
//
// PATTERN is a part of the case name. --second names the same directory through another mount.
// Prints `ok NAME`, `skip NAME: why` or `FAIL NAME: WHAT: expected X, found Y` and a last line
// with totals; exit status 1 if a case failed, 2 if nothing could be run.
// single-thread: main.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/posix/conformance/framework.h"
#include "tests/posix/conformance/runner.h"

namespace {

using namespace lumeofs::conformance;

Cases all_cases() {
    Cases cases;
    for (auto* add :
         {add_open_cases,       add_rename_cases,  add_rename_dir_cases, add_link_cases,
          add_dir_cases,        add_readdir_cases, add_symlink_cases,    add_attr_cases,
          add_time_cases,       add_special_cases, add_sparse_cases,     add_append_cases,
          add_race_cases,       add_sync_cases,    add_mmap_cases,       add_fallocate_cases,
          add_copy_cases,       add_xattr_cases,   add_name_cases,       add_statfs_cases,
          add_permission_cases, add_umask_cases,   add_lock_cases,       add_sqlite_like_cases,
          add_two_mount_cases}) {
        add(cases);
    }
    return cases;
}

[[noreturn]] void usage() {
    std::fprintf(stderr,
                 "usage: posix_conformance [--full] [--list] [--quiet] [--jobs N] [--seconds N] "
                 "[--second DIR] DIR [PATTERN]\n");
    std::exit(2);
}

std::string absolute(const char* path) {
    char* resolved = realpath(path, nullptr);
    if (resolved == nullptr) {
        std::fprintf(stderr, "posix_conformance: %s: %s\n", path, std::strerror(errno));
        std::exit(2);
    }
    std::string out = resolved;
    std::free(resolved);
    return out;
}

}  // namespace

int main(int argc, char** argv) {
    RunOptions options;
    bool list = false;
    std::vector<char*> rest;
    for (int i = 1; i < argc; ++i) {
        std::string word = argv[i];
        bool has_value = i + 1 < argc;
        if (word == "--full")
            options.full = true;
        else if (word == "--list")
            list = true;
        else if (word == "--quiet")
            options.quiet = true;
        else if (word == "--jobs" && has_value)
            options.jobs = static_cast<unsigned>(std::atoi(argv[++i]));
        else if (word == "--seconds" && has_value)
            options.seconds = static_cast<unsigned>(std::atoi(argv[++i]));
        else if (word == "--second" && has_value)
            options.second = absolute(argv[++i]);
        else if (word.starts_with("--"))
            usage();
        else
            rest.push_back(argv[i]);
    }
    if (options.jobs == 0 || options.seconds == 0 || (!list && (rest.empty() || rest.size() > 2))) {
        usage();
    }
    std::string wanted = !list && rest.size() == 2 ? rest[1] : "";
    Cases chosen;
    for (const Case& test : all_cases()) {
        if (test.name.find(wanted) != std::string_view::npos && (options.full || !test.slow)) {
            chosen.push_back(test);
        }
    }
    if (list) {
        for (const Case& test : chosen) {
            std::printf("%.*s\n", static_cast<int>(test.name.size()), test.name.data());
        }
        return 0;
    }
    if (chosen.empty()) {
        std::fprintf(stderr, "posix_conformance: no case has \"%s\" in its name\n", wanted.c_str());
        return 2;
    }
    std::string own = "/conformance." + std::to_string(getpid());
    options.dir = absolute(rest[0]) + own;
    options.second = options.second.empty() ? "" : options.second + own;
    if (mkdir(options.dir.c_str(), 0755) != 0 || chmod(options.dir.c_str(), 0755) != 0) {
        std::fprintf(
            stderr, "posix_conformance: mkdir %s: %s\n", options.dir.c_str(), std::strerror(errno));
        return 2;
    }
    Totals totals = run_cases(chosen, options);
    (void)rmdir(options.dir.c_str());  // stays, for a look, if a case's directory could not go
    std::printf("%u passed, %u failed, %u skipped\n", totals.passed, totals.failed, totals.skipped);
    return totals.failed == 0 ? 0 : 1;
}
