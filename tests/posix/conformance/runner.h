// SPDX-License-Identifier: Apache-2.0
// How a case's process tells the runner what became of it: a line through a pipe and an exit
// status. Only framework.cc, runner.cc and main.cc include this.
// single-thread: main.
#pragma once

#include <string>
#include <vector>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {

constexpr int kExitFailed = 41;
constexpr int kExitSkipped = 42;

struct RunOptions {
    std::string dir;
    std::string second;  // the same directory through another mount
    unsigned jobs = 2;
    unsigned seconds = 60;  // per case; slow cases have ten times that
    bool full = false;
    bool quiet = false;  // print only what is not ok
};

struct Totals {
    unsigned passed = 0;
    unsigned failed = 0;
    unsigned skipped = 0;
};

void report(const std::string& line);  // from a case's process to the runner
Totals run_cases(const std::vector<Case>& cases, const RunOptions& options);

}  // namespace lumeofs::conformance
