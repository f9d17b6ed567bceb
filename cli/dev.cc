// SPDX-License-Identifier: Apache-2.0
#include "cli/dev.h"

#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/admin_client.h"
#include "cli/dev_layout.h"
#include "cli/dev_mount.h"
#include "cli/process.h"

namespace lumeofs::cli {
namespace {

using nlohmann::json;

constexpr Nanos kHealthPatience = 60 * kSecond;
constexpr Nanos kStartPatience = 30 * kSecond;
constexpr Nanos kMountPatience = 60 * kSecond;
constexpr Nanos kStopPatience = 15 * kSecond;
constexpr int kTrouble = 1;
constexpr int kNotWhole = 3;

struct Place {
    std::string dir;
    DevShape shape;
    std::vector<DevDaemon> daemons;
};

int complain(const Status& status) {
    std::fprintf(stderr, "lumeofs dev: %s\n", std::string(status.text()).c_str());
    return kTrouble;
}

std::string dir_of(const DevOptions& options) {
    return options.dir.empty() ? default_dev_dir() : absolute_path(options.dir);
}

// The processes; an embedded cluster has one, and that is its mount.
std::vector<DevDaemon> processes_of(const std::string& dir, const DevShape& shape) {
    return shape.embedded ? std::vector<DevDaemon>{} : daemons_of(dir, shape);
}

Result<Place> find_place(const DevOptions& options) {
    Place place;
    place.dir = dir_of(options);
    LFS_ASSIGN(place.shape, load_shape(place.dir));
    place.daemons = processes_of(place.dir, place.shape);
    return place;
}

pid_t pid_of(const DevDaemon& daemon) {
    return running_pid(daemon.pid_file, daemon.program, daemon.config_file);
}

// One `up` or `down` at a time; freed with the process.
Status lock_place(const std::string& dir) {
    FILE* file = std::fopen((dir + "/lock").c_str(), "ae");
    if (!file) return Status(Errc::io, "cannot write in " + dir);
    if (flock(fileno(file), LOCK_EX | LOCK_NB) != 0) {
        std::fclose(file);
        return Status(Errc::busy, "another lumeofs dev works in " + dir);
    }
    return ok_status();  // the file stays open: the lock lives as long as we do
}

// What the caller asked for, on top of what is there.
Result<Place> plan_place(const DevOptions& options) {
    Place place;
    place.dir = dir_of(options);
    auto known = load_shape(place.dir);
    if (!known && known.code() != Errc::noent) return known.status();
    if (known) place.shape = *known;
    DevShape& shape = place.shape;
    const DevShape before = shape;
    if (!known) shape.embedded = options.embedded;
    shape.metads = options.metads.value_or(shape.embedded ? 1 : shape.metads);
    shape.chunkds = options.chunkds.value_or(shape.chunkds);
    shape.base_port = options.base_port.value_or(shape.base_port);
    if (options.mount) shape.mount = absolute_path(*options.mount);
    if (shape.mount.empty()) shape.mount = place.dir + "/mnt";
    LFS_TRY(check_shape(shape));
    if (shape.embedded && shape.metads != 1) {
        return Status(Errc::config, "--embedded has one metad");
    }
    const bool other = (options.embedded && !shape.embedded) || shape.metads != before.metads ||
                       shape.chunkds != before.chunkds || shape.base_port != before.base_port ||
                       shape.mount != before.mount;
    if (known && other) {
        return Status(Errc::config,
                      place.dir + " holds a cluster of " + std::to_string(before.metads) +
                          " metads and " + std::to_string(before.chunkds) + " chunkds from port " +
                          std::to_string(before.base_port) + " on, mounted at " + before.mount +
                          "; use another --dir, or lumeofs dev down --purge");
    }
    place.daemons = processes_of(place.dir, shape);
    return place;
}

Status log_end(const DevDaemon& daemon, const std::string& what) {
    return Status(Errc::io,
                  daemon.name + " " + what + "; the end of " + daemon.log_file + ":\n" +
                      tail_of(daemon.log_file, 10));
}

Status spawn_daemon(const DevDaemon& daemon) {
    wait_for_dying(daemon.pid_file, kStopPatience);
    if (port_is_listened_on(daemon.port)) {
        return Status(Errc::config,
                      "port " + std::to_string(daemon.port) + " of " + daemon.name +
                          " is used by another program; choose another --base-port");
    }
    LFS_ASSIGN(
        const pid_t pid,
        start_program({{own_directory() + "/" + daemon.program, "-config", daemon.config_file},
                       daemon.log_file}));
    if (!write_whole_file(daemon.pid_file, std::to_string(pid) + "\n")) {
        end_process(pid, kSecond);
        return Status(Errc::io, "cannot write " + daemon.pid_file);
    }
    return ok_status();
}

Status wait_until_it_listens(const DevDaemon& daemon, Nanos deadline) {
    for (;;) {
        const pid_t pid = pid_of(daemon);
        if (pid == 0) return log_end(daemon, "ended");
        if (port_is_listened_on(daemon.port)) return ok_status();
        if (time_now() > deadline) return log_end(daemon, "does not listen");
        wait_for_end(pid, 20 * kMillisecond);
    }
}

struct Health {
    bool all_online = false;  // every chunkd
    bool whole = false;       // and the cluster sees no problem at all
    std::string leader;       // name
    std::string text;         // why not, one line
};

Health health_of(AdminClient& admin, const Place& place, Nanos patience) {
    Health health;
    auto answer = admin.ask({.what = "status"}, patience);
    if (!answer) {
        health.text = answer.status().text();
        return health;
    }
    const json status = json::parse(*answer, nullptr, false);
    if (!status.is_object()) {
        health.text = "the leader's answer is no JSON";
        return health;
    }
    size_t online = 0;
    for (const json& node : status.value("chunkds", json::array())) {
        online += node.value("state", "") == "online";
    }
    health.all_online = online == place.shape.chunkds;
    health.whole = health.all_online && status.value("health", "") == "healthy";
    health.leader =
        "metad" + std::to_string(status.value("raft", json::object()).value("leader", 0u));
    for (const json& problem : status.value("problems", json::array())) {
        if (!problem.is_string()) continue;
        health.text += (health.text.empty() ? "" : "; ") + problem.get<std::string>();
    }
    if (health.text.empty() && !health.all_online) {
        health.text = std::to_string(online) + " of " + std::to_string(place.shape.chunkds) +
                      " chunkds are online";
    }
    return health;
}

Status wait_until_online(const Place& place) {
    const Nanos deadline = time_now() + kHealthPatience;
    AdminClient admin(metads_of(place.shape));
    for (;;) {
        const Health health = health_of(admin, place, kSecond);
        if (health.all_online) return ok_status();
        for (const DevDaemon& daemon : place.daemons) {
            if (pid_of(daemon) == 0) return log_end(daemon, "ended");
        }
        if (time_now() > deadline) {
            return Status(Errc::timedout, "the cluster did not get healthy: " + health.text);
        }
        look_again_later(100 * kMillisecond);
    }
}

Status write_files(const Place& place) {
    LFS_TRY(make_directories(place.dir));
    for (const DevDaemon& daemon : daemons_of(place.dir, place.shape)) {
        LFS_TRY(make_directories(daemon.data_dir));
        if (!write_whole_file(daemon.config_file, daemon.config)) {
            return Status(Errc::io, "cannot write " + daemon.config_file);
        }
    }
    if (!place.shape.embedded &&
        !write_whole_file(place.dir + "/daemons.json",
                          manifest_text(own_path(), place.dir, place.shape))) {
        return Status(Errc::io, "cannot write " + place.dir + "/daemons.json");
    }
    return store_shape(place.dir, place.shape);
}

// Ends these daemons; false if one lives on.
bool stop_daemons(const std::vector<DevDaemon>& daemons, const std::string& role) {
    std::vector<std::pair<pid_t, const DevDaemon*>> running;
    bool good = true;
    for (const DevDaemon& daemon : daemons) {
        if (daemon.role != role) continue;
        const pid_t pid = pid_of(daemon);
        if (pid == 0) {
            unlink(daemon.pid_file.c_str());
        } else {
            kill(pid, SIGTERM);  // all at once, then each is waited for
            running.emplace_back(pid, &daemon);
        }
    }
    for (const auto& [pid, daemon] : running) {
        if (end_process(pid, kStopPatience)) {
            unlink(daemon->pid_file.c_str());
        } else {
            std::fprintf(stderr,
                         "lumeofs dev: %s (pid %d) cannot be ended\n",
                         daemon->name.c_str(),
                         static_cast<int>(pid));
            good = false;
        }
    }
    return good;
}

Status bring_up(const Place& place, std::vector<DevDaemon>* started) {
    if (place.shape.embedded) {
        LFS_TRY(mount_cluster(place.dir, place.shape, kMountPatience));
        return wait_until_online(place);
    }
    for (const DevDaemon& daemon : place.daemons) {
        if (pid_of(daemon) != 0) continue;
        LFS_TRY(spawn_daemon(daemon));
        started->push_back(daemon);
    }
    const Nanos deadline = time_now() + kStartPatience;
    for (const DevDaemon& daemon : *started) LFS_TRY(wait_until_it_listens(daemon, deadline));
    LFS_TRY(wait_until_online(place));
    return mount_cluster(place.dir, place.shape, kMountPatience);
}

void print_place(const Place& place, const char* what) {
    std::printf("%s: %u metads, %u chunkds, mounted at %s\n",
                what,
                place.shape.metads,
                place.shape.chunkds,
                place.shape.mount.c_str());
}

}  // namespace

int dev_up(const DevOptions& options) {
    auto place = plan_place(options);
    if (!place) return complain(place.status());
    const bool fresh = load_shape(place->dir).code() == Errc::noent;
    Status status = make_directories(place->dir);
    if (status.is_ok()) status = lock_place(place->dir);
    if (status.is_ok()) status = write_files(*place);
    if (!status.is_ok()) return complain(status);
    std::vector<DevDaemon> started;
    const bool was_mounted = mount_pid(place->dir, place->shape) != 0;
    status = bring_up(*place, &started);
    if (status.is_ok()) {
        print_place(*place, started.empty() && was_mounted ? "already running" : "running");
        return 0;
    }
    complain(status);
    if (!was_mounted) {
        ignore(unmount_cluster(place->dir, place->shape, false), "the first error was printed");
    }
    stop_daemons(started, "chunkd");
    stop_daemons(started, "metad");
    if (fresh && started.empty()) unlink((place->dir + "/cluster.json").c_str());
    return kTrouble;
}

int dev_down(const DevOptions& options) {
    auto place = find_place(options);
    if (!place && place.code() == Errc::noent) {
        std::printf("nothing to do: %s\n", std::string(place.status().text()).c_str());
        return 0;
    }
    if (!place) return complain(place.status());
    if (const Status locked = lock_place(place->dir); !locked.is_ok()) return complain(locked);
    size_t running = 0;
    for (const DevDaemon& daemon : place->daemons) running += pid_of(daemon) != 0;
    const bool cluster_runs = running == place->daemons.size();
    running += place->shape.embedded && mount_pid(place->dir, place->shape) != 0;
    const Status status = unmount_cluster(place->dir, place->shape, cluster_runs);
    if (!status.is_ok()) {
        complain(status);
        if (is_mounted(place->shape.mount)) return kTrouble;
    }
    const bool ended =
        stop_daemons(place->daemons, "chunkd") && stop_daemons(place->daemons, "metad");
    if (!ended) return kTrouble;
    if (options.purge) {
        // Only what `up` made: the directory may be the user's own.
        std::error_code error;
        for (const DevDaemon& daemon : daemons_of(place->dir, place->shape)) {
            std::filesystem::remove_all(daemon.data_dir, error);
            std::filesystem::remove(daemon.config_file, error);
            std::filesystem::remove(daemon.log_file, error);
        }
        for (const char* name :
             {"/daemons.json", "/mount.log", "/mount.status", "/lock", "/cluster.json"}) {
            std::filesystem::remove(place->dir + name, error);
        }
        std::filesystem::remove(place->shape.mount, error);
        std::filesystem::remove(place->dir, error);  // stays if something else is in it
    }
    std::printf("%s: %zu daemons ended\n", options.purge ? "down and deleted" : "down", running);
    return status.is_ok() ? 0 : kTrouble;
}

int dev_status(const DevOptions& options) {
    auto place = find_place(options);
    if (!place) return complain(place.status());
    Health health;
    {
        AdminClient admin(metads_of(place->shape));
        health = health_of(admin, *place, kAskPatience);
    }
    const pid_t mount = mount_pid(place->dir, place->shape);
    const bool mounted = mount != 0 && is_mounted(place->shape.mount);
    const bool good = health.whole && mounted;
    if (options.json) {
        json out = {{"dir", place->dir},
                    {"health", health.whole ? "healthy" : "trouble"},
                    {"problems", health.text},
                    {"leader", health.leader},
                    {"mount", {{"path", place->shape.mount}, {"mounted", mounted}, {"pid", mount}}},
                    {"daemons", json::array()}};
        for (const DevDaemon& daemon : place->daemons) {
            out["daemons"].push_back({{"name", daemon.name},
                                      {"role", daemon.role},
                                      {"node", daemon.node},
                                      {"port", daemon.port},
                                      {"pid", pid_of(daemon)}});
        }
        std::printf("%s\n", out.dump(2).c_str());
        return good ? 0 : kNotWhole;
    }
    std::printf("%s\n", health.whole ? "healthy" : ("trouble: " + health.text).c_str());
    for (const DevDaemon& daemon : place->daemons) {
        const pid_t pid = pid_of(daemon);
        std::printf("%-10s 127.0.0.1:%-6u %s%s\n",
                    daemon.name.c_str(),
                    daemon.port,
                    pid != 0 ? ("pid " + std::to_string(pid)).c_str() : "not running",
                    daemon.name == health.leader ? "  leader" : "");
    }
    std::printf("%-10s %s %s\n",
                "mount",
                place->shape.mount.c_str(),
                mounted ? ("pid " + std::to_string(mount)).c_str() : "not mounted");
    return good ? 0 : kNotWhole;
}

int dev_start(const DevOptions& options) {
    auto place = find_place(options);
    if (!place) return complain(place.status());
    for (const DevDaemon& daemon : place->daemons) {
        if (daemon.name != options.name) continue;
        if (const pid_t pid = pid_of(daemon); pid != 0) {
            std::printf(
                "%s is already running (pid %d)\n", daemon.name.c_str(), static_cast<int>(pid));
            return 0;
        }
        Status status = spawn_daemon(daemon);
        if (status.is_ok()) status = wait_until_it_listens(daemon, time_now() + kStartPatience);
        return status.is_ok() ? 0 : complain(status);
    }
    std::string names;
    for (const DevDaemon& daemon : place->daemons) names += " " + daemon.name;
    return complain(Status(Errc::inval, "no daemon '" + options.name + "'; known:" + names));
}

int dev_leader(const DevOptions& options) {
    auto place = find_place(options);
    if (!place) return complain(place.status());
    AdminClient admin(metads_of(place->shape));
    const Health health = health_of(admin, *place, kAskPatience);
    if (health.leader.empty()) return complain(Status(Errc::unavailable, health.text));
    std::printf("%s\n", health.leader.c_str());
    return 0;
}

int dev_healthy(const DevOptions& options) {
    auto place = find_place(options);
    if (!place) return complain(place.status());
    AdminClient admin(metads_of(place->shape));
    const Health health = health_of(admin, *place, 2 * kSecond);
    if (!health.whole) complain(Status(Errc::unavailable, health.text));
    return health.whole ? 0 : kTrouble;
}

}  // namespace lumeofs::cli
