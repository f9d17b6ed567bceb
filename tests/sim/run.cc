// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/run.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "common/base/log.h"
#include "metad/consensus/driver.h"
#include "tests/sim/checkers.h"
#include "tests/sim/cluster.h"
#include "tests/sim/workload.h"

namespace lumeofs::sim {

namespace {

constexpr Nanos kStep = 50 * kMillisecond;
constexpr Nanos kStartBound = 120 * kSecond;
constexpr Nanos kFinishBound = 400 * kSecond;
constexpr Nanos kHealthyBound = 600 * kSecond;
constexpr int kActorsPerClient = 2;

class Run {
public:
    Run(uint64_t seed, bool faults)
        : random_(Prng(seed).fork("run")),
          with_faults_(faults),
          cluster_(seed),
          checkers_(cluster_) {
        for (size_t client = 0; client < kClients; ++client) {
            for (int i = 0; i < kActorsPerClient; ++i) {
                actors_.push_back(std::make_unique<Actor>(
                    cluster_, shared_, client, static_cast<int>(actors_.size()), random_.next()));
            }
        }
        choose_work();
        going_.resize(kClients);
        cluster_.on_power_lost([this](Process& process) { crash(process, true); });
    }

    RunResult run() {
        const Nanos began = cluster_.world.now();
        start_up();
        if (good()) trouble();
        if (good()) wind_up();
        RunResult result;
        result.violation = cluster_.violation();
        result.hash = cluster_.world.hash();
        result.events = cluster_.world.events();
        result.faults = faults_ + cluster_.network.faults_fired();
        result.virtual_time = cluster_.world.now() - began;
        result.reads = shared_.history.reads();
        result.writes = shared_.history.writes();
        result.chunks = checkers_.chunks_compared();
        result.leftovers = checkers_.leftover_copies();
        for (auto& actor : actors_) result.operations += actor->operations();
        if (result.violation.empty() && with_faults_ && result.faults == 0) {
            result.violation = "no fault fired";
        }
        return result;
    }

private:
    // Half of the seeds share little and work mostly on files of their own, as programs do; in the
    // others everybody is at one or two files, keeps them open and cuts them.
    void choose_work() {
        if (random_.chance(1, 2)) return;
        shared_.files = static_cast<int>(random_.between(1, Actor::kSharedFiles));
        shared_.share = random_.between(30, 80);
        shared_.truncates = random_.below(25);
        shared_.keep_open = random_.chance(1, 2) ? random_.between(20, 90) : 0;
    }

    bool good() const { return cluster_.violation().empty(); }

    void step() {
        cluster_.world.run_until(cluster_.world.now() + kStep);
        checkers_.tick();
        for (size_t client = 0; client < kClients; ++client) {
            const bool started = cluster_.client(client).started;
            if (started == going_[client]) continue;
            going_[client] = started;
            for (size_t i = 0; i < actors_.size(); ++i) {
                if (i / kActorsPerClient == client && started) actors_[i]->client_started();
            }
        }
    }

    void start_up() {
        const Nanos until = cluster_.world.now() + kStartBound;
        while (good() && cluster_.world.now() < until) {
            step();
            if (std::all_of(going_.begin(), going_.end(), [](bool going) { return going; })) return;
        }
        cluster_.fail("the cluster did not start: " + checkers_.unrest());
    }

    // --- faults ---------------------------------------------------------------------------------
    // Each seed has its own mix: kinds of trouble that come at all, and how often.
    void trouble() {
        const Nanos duration = static_cast<Nanos>(random_.between(20, 90)) * kSecond;
        const Nanos until = cluster_.world.now() + duration;
        if (!with_faults_) {
            while (good() && cluster_.world.now() < until) step();
            return;
        }
        kinds_ = random_.next() | (uint64_t{1} << random_.below(kKinds));
        NetworkFaults& net = cluster_.network.faults;
        if (random_.chance(1, 2)) {
            net.spike_per_10k = static_cast<uint32_t>(random_.between(1, 200));
            net.spike_max = static_cast<Nanos>(random_.between(1, 3000)) * kMillisecond;
        }
        if (random_.chance(1, 2))
            net.reset_per_100k = static_cast<uint32_t>(random_.between(1, 200));
        if (random_.chance(1, 2)) {
            net.raft_lost_per_1k = static_cast<uint32_t>(random_.below(100));
            net.raft_repeated_per_1k = static_cast<uint32_t>(random_.below(100));
            net.raft_reordered_per_1k = static_cast<uint32_t>(random_.below(100));
        }
        const Nanos gap_max = random_.chance(1, 2)
                                  ? static_cast<Nanos>(random_.between(1, 15)) * kSecond
                                  : static_cast<Nanos>(random_.between(200, 3000)) * kMillisecond;
        quick_ = random_.chance(1, 2);
        Nanos next = cluster_.world.now() + kSecond;
        while (good() && cluster_.world.now() < until) {
            step();
            if (cluster_.world.now() < next) continue;
            next = cluster_.world.now() +
                   static_cast<Nanos>(random_.below(static_cast<uint64_t>(gap_max)));
            one_fault();
        }
    }

    Process& any() { return *cluster_.processes()[random_.below(cluster_.processes().size())]; }

    void one_fault() {
        constexpr int kTries = 16;
        for (int i = 0; i < kTries; ++i) {
            const uint64_t kind = random_.below(kKinds);
            if ((kinds_ >> kind & 1) == 0) continue;
            ++faults_;
            cluster_.world.note(kind);
            LFS_LOG(debug, "fault of kind {}", kind);
            return fire(kind);
        }
    }

    // Until a dead process is started again. Quick ones are back before anybody has given them up.
    Nanos downtime() {
        if (quick_ && random_.chance(2, 3)) {
            return static_cast<Nanos>(random_.below(uint64_t{400} * kMillisecond));
        }
        return some_seconds();
    }

    Nanos some_seconds() {
        return static_cast<Nanos>(random_.below(
            static_cast<uint64_t>(random_.chance(1, 4) ? 60 * kSecond : 8 * kSecond)));
    }

    static constexpr uint64_t kKinds = 13;
    void fire(uint64_t kind) {
        Process& a = any();
        Process& b = any();
        switch (kind) {
            case 0:
                return crash(a, false);
            case 1:
                return crash(a, a.kind != Kind::client);
            case 2:
                return hold(a, some_seconds());
            case 3:
                return part({a.id}, {b.id}, random_.chance(1, 2));
            case 4: {  // one against all
                std::vector<ProcessId> others;
                for (auto& process : cluster_.processes()) {
                    if (process->id != a.id) others.push_back(process->id);
                }
                return part({a.id}, others, random_.chance(1, 3));
            }
            case 5: {  // in two halves
                std::vector<ProcessId> left, right;
                for (auto& process : cluster_.processes()) {
                    (random_.chance(1, 2) ? left : right).push_back(process->id);
                }
                return part(left, right, random_.chance(1, 4));
            }
            case 6:
                return cluster_.network.reset_links(a.id, b.id);
            case 7:  // power cut in the middle of a change
                if (a.disk && a.loop != nullptr) a.disk->fail_power_after(random_.between(1, 60));
                return;
            case 8: {  // power of all servers at once
                if (!random_.chance(1, 3)) return;
                for (auto& process : cluster_.processes()) {
                    if (process->disk) crash(*process, true);
                }
                return;
            }
            case 9:
                return leader_and_client();
            case 10: {  // a client that metad still hears and one chunkd does not, or only late
                Process& client = cluster_.client(random_.below(kClients));
                Process& chunkd = cluster_.chunkd(random_.below(kChunkds));
                return part({client.id}, {chunkd.id}, random_.chance(2, 3));
            }
            case 11: {  // a client cut off from all metads long enough to lose its session
                Process& client = cluster_.client(random_.below(kClients));
                const Nanos until =
                    cluster_.world.now() + static_cast<Nanos>(random_.between(5, 60)) * kSecond;
                for (size_t i = 0; i < kMetads; ++i) {
                    block(client.id, cluster_.metad(i).id, until);
                    block(cluster_.metad(i).id, client.id, until);
                }
                return;
            }
            case 12:
                return lose_disk(cluster_.chunkd(random_.below(kChunkds)));
            default:
                return;
        }
    }

    // One node loses its disk and comes back without a chunk: nothing that was acknowledged may be
    // lost by it, whatever else happens. Once in a run, which is all that two copies can bear.
    void lose_disk(Process& chunkd) {
        if (disk_lost_ || chunkd.loop == nullptr) return;
        disk_lost_ = true;
        crash(chunkd, true);
        chunkd.disk->lose_tree("/data/store");
        LFS_LOG(debug, "{} has lost its disk", chunkd.name);
    }

    // Sizes wait for a leader while bytes go on to the chunkds; then their client dies.
    void leader_and_client() {
        for (size_t i = 0; i < kMetads; ++i) {
            Process& process = cluster_.metad(i);
            if (process.loop == nullptr || !process.up || process.power_lost) continue;
            if (!process.metad->raft().is_ready_leader()) continue;
            if (random_.chance(1, 2))
                hold(process, some_seconds());
            else
                crash(process, random_.chance(1, 2));
        }
        Process* client = &cluster_.client(random_.below(kClients));
        const Nanos after = static_cast<Nanos>(random_.below(uint64_t{1500} * kMillisecond));
        cluster_.world.at(cluster_.world.now() + after, [this, client] {
            if (good()) crash(*client, false);
        });
    }

    void crash(Process& process, bool power) {
        if (process.loop == nullptr) return;
        LFS_LOG(debug, "{} {}", process.name, power ? "loses power" : "is killed");
        cluster_.crash(process, power);
        if (process.kind == Kind::client) {
            const size_t client = process.id - cluster_.client(0).id;
            going_[client] = false;
            for (size_t i = 0; i < actors_.size(); ++i) {
                if (i / kActorsPerClient == client) actors_[i]->client_died();
            }
        }
        Process* dead = &process;
        cluster_.world.at(cluster_.world.now() + downtime(), [this, dead] {
            if (good()) cluster_.start(*dead);
        });
    }

    void hold(Process& process, Nanos time) {
        if (process.loop == nullptr || process.loop->paused()) return;
        process.loop->pause();
        SimLoop* loop = process.loop;  // of this start; stays where it is until the end
        cluster_.world.at(cluster_.world.now() + time, [loop] { loop->resume(); });
    }

    void part(const std::vector<ProcessId>& left,
              const std::vector<ProcessId>& right,
              bool one_way) {
        const Nanos until = cluster_.world.now() + some_seconds();
        for (ProcessId a : left) {
            for (ProcessId b : right) {
                if (a == b) continue;
                block(a, b, until);
                if (!one_way) block(b, a, until);
            }
        }
    }

    void block(ProcessId from, ProcessId to, Nanos until) {
        cluster_.network.block(from, to);
        cluster_.world.at(until, [this, from, to] { cluster_.network.unblock(from, to); });
    }

    // --- liveness -------------------------------------------------------------------------------
    void wind_up() {
        cluster_.network.faults = NetworkFaults();
        cluster_.network.heal();
        for (auto& process : cluster_.processes()) {
            if (process->disk) process->disk->fail_power_after(UINT64_MAX / 2);
            if (process->power_lost) crash(*process, true);
            cluster_.resume(*process);
            cluster_.start(*process);
        }
        for (auto& actor : actors_) actor->finish();
        const Nanos finish_by = cluster_.world.now() + kFinishBound;
        while (good() && !all_finished()) {
            if (cluster_.world.now() > finish_by) return cluster_.fail("not live: " + unfinished());
            step();
        }
        const Nanos healthy_by = cluster_.world.now() + kHealthyBound;
        std::string unrest;
        int restful = 0;
        while (good() && restful < 3) {
            for (int i = 0; i < 20 && good(); ++i) step();
            unrest = checkers_.unrest();
            restful = unrest.empty() ? restful + 1 : 0;
            if (cluster_.world.now() > healthy_by) return cluster_.fail("not healthy: " + unrest);
        }
        if (!good()) return;
        std::vector<uint64_t> epochs;
        for (size_t i = 0; i < kClients; ++i) epochs.push_back(cluster_.client(i).epoch);
        if (std::string wrong = shared_.modes.check(); !wrong.empty()) return cluster_.fail(wrong);
        if (std::string wrong = shared_.history.check(epochs); !wrong.empty()) {
            return cluster_.fail(wrong);
        }
        checkers_.quiet();
    }

    bool all_finished() const {
        return std::all_of(
            actors_.begin(), actors_.end(), [](const auto& a) { return a->finished(); });
    }

    std::string unfinished() {
        std::string text;
        for (const auto& actor : actors_) {
            if (!actor->finished()) text += actor->state() + "; ";
        }
        for (size_t i = 0; i < kClients; ++i) {
            Process& process = cluster_.client(i);
            if (!process.vfs) continue;
            const client::ClientStatus status = process.vfs->status();
            for (const auto& op : status.waiting) {
                text += process.name + " " + op.name + " waits for " + op.waits_for + "; ";
            }
        }
        return text + checkers_.unrest();
    }

    Prng random_;
    const bool with_faults_;
    Cluster cluster_;
    Checkers checkers_;
    Shared shared_;
    std::vector<std::unique_ptr<Actor>> actors_;
    std::vector<bool> going_;
    uint64_t kinds_ = 0;
    bool quick_ = false;
    bool disk_lost_ = false;
    uint64_t faults_ = 0;
};

}  // namespace

RunResult run_seed(uint64_t seed, bool faults) {
    Run run(seed, faults);
    return run.run();
}

}  // namespace lumeofs::sim
