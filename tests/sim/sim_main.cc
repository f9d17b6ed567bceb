// SPDX-License-Identifier: Apache-2.0
// lumeo_sim: runs seeds of the cluster simulation, in child processes, and reports what they found.
//
//   --seed N            one seed, here, with the log on stderr if --log LEVEL
//   --seeds N [--first N] [--jobs N] [--minutes M] [--no-faults]
//   --twice             every seed twice: the hashes of the events must be equal
//   --planted-bugs      each planted bug by name, seeds until it is caught (--seeds = the limit)
// Exit status: 0 if all went as it should.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "tests/sim/run.h"
#include "tests/sim/sim_loop.h"

using namespace lumeofs;
using namespace lumeofs::sim;

namespace {

struct Args {
    uint64_t seed = 0, seeds = 0, first = 1;
    int jobs = 2;
    int minutes = 0;
    bool twice = false, planted = false, faults = true;
    std::string bug;
    LogLevel log = LogLevel::off;
};

struct Report {  // what a child writes into its pipe for each seed
    uint64_t seed = 0;
    uint64_t hash = 0, events = 0, faults = 0, operations = 0, reads = 0, writes = 0, chunks = 0,
             leftovers = 0;
    int64_t virtual_time = 0;
    char violation[600] = {};
};

double hours(int64_t time) { return static_cast<double>(time) / 3.6e12; }

Report run_one(uint64_t seed, const Args& args) {
    const RunResult result = run_seed(seed, args.faults);
    Report report;
    report.seed = seed;
    report.hash = result.hash;
    report.events = result.events;
    report.faults = result.faults;
    report.operations = result.operations;
    report.reads = result.reads;
    report.writes = result.writes;
    report.chunks = result.chunks;
    report.leftovers = result.leftovers;
    report.virtual_time = result.virtual_time;
    std::string violation = result.violation;
    if (args.twice && violation.empty() && run_seed(seed, args.faults).hash != result.hash) {
        violation = "not deterministic: two runs of this seed differ";
    }
    std::snprintf(report.violation, sizeof report.violation, "%s", violation.c_str());
    return report;
}

struct Child {
    pid_t pid = 0;
    int pipe = -1;
    uint64_t seed = 0;
};

// One seed, one process: an assertion or a crash names its seed.
Child spawn(uint64_t seed, const Args& args) {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    std::fflush(nullptr);
    const pid_t pid = fork();
    if (pid < 0) std::abort();
    if (pid == 0) {
        close(ends[0]);
        alarm(300);  // a run that does not end in real time is a finding too
        const Report report = run_one(seed, args);
        const bool written = write(ends[1], &report, sizeof report) == ssize_t{sizeof report};
        _exit(written ? 0 : 1);
    }
    close(ends[1]);
    return {pid, ends[0], seed};
}

Report collect(const Child& child, int status) {
    Report report;
    const ssize_t got = read(child.pipe, &report, sizeof report);
    close(child.pipe);
    if (got != ssize_t{sizeof report}) {
        report = Report();
        report.seed = child.seed;
        const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        std::snprintf(report.violation,
                      sizeof report.violation,
                      "died: signal %d (%s); its last words are above",
                      signal,
                      strsignal(signal));
    }
    return report;
}

struct Sum {
    uint64_t seeds = 0, failed = 0, faults = 0, operations = 0, reads = 0, writes = 0, chunks = 0,
             leftovers = 0;
    int64_t virtual_time = 0;
};

Sum run_many(const Args& args, bool stop_at_first, std::string* first_violation) {
    const auto began = std::chrono::steady_clock::now();
    auto over = [&] {
        return args.minutes > 0 && std::chrono::steady_clock::now() - began >
                                       std::chrono::minutes(args.minutes);
    };
    Sum sum;
    std::map<pid_t, Child> children;
    uint64_t next = args.first;
    const uint64_t end = args.seeds == 0 ? UINT64_MAX : args.first + args.seeds;
    bool stop = false;
    while (true) {
        while (!stop && next < end && !over() && children.size() < static_cast<size_t>(args.jobs)) {
            const Child child = spawn(next++, args);
            children[child.pid] = child;
        }
        if (children.empty()) break;
        int status = 0;
        const pid_t pid = wait(&status);
        auto found = children.find(pid);
        if (found == children.end()) continue;
        const Report report = collect(found->second, status);
        children.erase(found);
        ++sum.seeds;
        sum.faults += report.faults;
        sum.operations += report.operations;
        sum.reads += report.reads;
        sum.writes += report.writes;
        sum.chunks += report.chunks;
        sum.leftovers += report.leftovers;
        sum.virtual_time += report.virtual_time;
        if (report.violation[0] == 0) continue;
        ++sum.failed;
        if (first_violation != nullptr && first_violation->empty()) {
            *first_violation = "seed " + std::to_string(report.seed) + ": " + report.violation;
        }
        if (!args.planted) {
            std::printf("VIOLATION seed %llu: %s\n",
                        static_cast<unsigned long long>(report.seed),
                        report.violation);
            std::fflush(stdout);
        }
        if (stop_at_first) stop = true;
    }
    return sum;
}

int report(const Sum& sum) {
    std::printf("%llu seeds, %llu failed, %.2f virtual hours, %llu faults fired, %llu operations, "
                "%llu pages written and %llu read in shared files, %llu chunks compared, "
                "%llu copies left over\n",
                static_cast<unsigned long long>(sum.seeds),
                static_cast<unsigned long long>(sum.failed),
                hours(sum.virtual_time),
                static_cast<unsigned long long>(sum.faults),
                static_cast<unsigned long long>(sum.operations),
                static_cast<unsigned long long>(sum.writes),
                static_cast<unsigned long long>(sum.reads),
                static_cast<unsigned long long>(sum.chunks),
                static_cast<unsigned long long>(sum.leftovers));
    return sum.failed == 0 && sum.seeds > 0 ? 0 : 1;
}

#if LUMEO_PLANTED_BUGS
const char* const kBugs[] = {
    "raft.vote_after_restart", "raft.vote_not_persisted", "raft.commit_old_term",
    "consensus.ack_before_sync", "consensus.cut_above_checkpoint", "consensus.vote_unsynced",
    "consensus.wiped_node_votes", "consensus.damage_is_tail", "consensus.lease_from_answer",
    "ns.late_size_commit", "ns.slot_not_stored", "ns.single_mark", "ns.tail_not_cut",
    "chunkd.ignore_fence", "chunkd.no_dedup", "chunkd.read_undecided", "chunkd.no_reconcile",
    "chunkd.copy_over_newer", "chunkd.sequence_reused", "chunkd.ack_before_secondaries",
    "chunkd.serve_without_lease", "store.unwritten_space_unsynced", "store.ack_before_sync",
    "store.log_not_vouched_for", "store.index_before_home", "store.truncate_keeps_blocks",
    "store.reuse_space_at_once", "client.grant_after_recall", "client.keep_grant_after_lease",
    "client.overlapping_writes", "client.keep_recalled_names", "client.recall_not_waited_out",
    "ns.no_read_recall"};

int planted(Args args) {
    constexpr int kMustCatch = 10;
    if (args.seeds == 0) args.seeds = 100;
    int caught = 0;
    for (const char* bug : kBugs) {
        if (!args.bug.empty() && args.bug != bug) continue;
        set_planted_bug(bug);
        std::string violation;
        const Sum sum = run_many(args, true, &violation);
        if (!violation.empty()) ++caught;
        std::printf("%-34s %s (%llu seeds) %s\n",
                    bug,
                    violation.empty() ? "NOT CAUGHT" : "caught",
                    static_cast<unsigned long long>(sum.seeds),
                    violation.c_str());
        std::fflush(stdout);
    }
    std::printf("%d planted bugs caught\n", caught);
    return caught >= kMustCatch || !args.bug.empty() ? 0 : 1;
}
#else
int planted(const Args& /*args*/) {
    std::printf("built without LUMEO_PLANTED_BUGS\n");
    return 1;
}
#endif

bool parse(int argc, char** argv, Args* args) {
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (name == "--twice") args->twice = true;
        else if (name == "--planted-bugs") args->planted = true;
        else if (name == "--no-faults") args->faults = false;
        else if (i + 1 == argc) return false;
        else if (name == "--seed") args->seed = std::strtoull(argv[++i], nullptr, 0);
        else if (name == "--seeds") args->seeds = std::strtoull(argv[++i], nullptr, 0);
        else if (name == "--first") args->first = std::strtoull(argv[++i], nullptr, 0);
        else if (name == "--jobs") args->jobs = std::atoi(argv[++i]);
        else if (name == "--minutes") args->minutes = std::atoi(argv[++i]);
        else if (name == "--bug") args->bug = argv[++i];
        else if (name == "--log") { if (!parse_log_level(argv[++i], &args->log)) return false; }
        else return false;
    }
    return args->seed != 0 || args->seeds != 0 || args->minutes != 0 || args->planted;
}

}  // namespace

int main(int argc, char** argv) {
    Args args;
    if (!parse(argc, argv, &args)) {
        std::fprintf(stderr, "usage: lumeo_sim --seed N | --seeds N [--first N] | --minutes M | "
                             "--planted-bugs  [--jobs N] [--twice] [--no-faults] [--log LEVEL]\n");
        return 64;
    }
    LogOptions log;
    log.level = args.log;
    init_log(log);
    if (args.log != LogLevel::off) {  // virtual time and process in front
        set_log_hook([](LogLevel, std::string_view line) {
            std::fprintf(stderr,
                         "%s%.*s\n",
                         World::stamp().c_str(),
                         static_cast<int>(line.size()),
                         line.data());
        });
    }
    if (args.planted) return planted(args);
    if (args.seed == 0) return report(run_many(args, false, nullptr));
#if LUMEO_PLANTED_BUGS
    if (!args.bug.empty()) set_planted_bug(args.bug.c_str());
#endif
    const Report one = run_one(args.seed, args);
    std::printf("seed %llu hash %016llx events %llu: %s\n",
                static_cast<unsigned long long>(one.seed),
                static_cast<unsigned long long>(one.hash),
                static_cast<unsigned long long>(one.events),
                one.violation[0] == 0 ? "ok" : one.violation);
    Sum sum{1, one.violation[0] == 0 ? 0u : 1u, one.faults, one.operations, one.reads, one.writes,
            one.chunks, one.leftovers, one.virtual_time};
    return report(sum);
}
