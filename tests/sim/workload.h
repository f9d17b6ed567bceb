// SPDX-License-Identifier: Apache-2.0
// Actors: each does one random operation after the other on one client and knows what must come
// out.
//
// Private files (a directory per actor): a reference file system, exact to the byte. After the
// client died or lost its session the directory must be as before or after the operation in doubt,
// and every byte as it was synced or as some later write left it; what is found then counts.
// Shared files: every actor of every client writes and reads whole pages, see history.h.
// A lock file, made with O_EXCL and removed again: two holders at once are a violation.
// Modes, set while a file is written: what any client sees of them, see modes.h.
// single-thread: the simulation.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/cluster.h"
#include "tests/sim/history.h"
#include "tests/sim/modes.h"
#include "tests/sim/private_file.h"

namespace lumeofs::sim {

// What the actors of all clients share.
struct Shared {
    History history;
    Modes modes;
    InodeId directory;  // 0: nobody made it yet
    struct Hold {       // of the lock file
        int actor = 0;
        Nanos got = 0;
        Nanos let_go = INT64_MAX;  // when the removal was asked for
    };
    std::vector<Hold> holds;
    struct Kept {  // the lock file's name, by the kernel of a client
        InodeId ino;
        size_t client = 0;
        uint64_t epoch = 0;  // of the client
        Nanos until = 0;
    };
    std::vector<Kept> kept;
    std::map<int, InodeId> inodes;  // of the shared files
    // The seed's own mix.
    int files = 3;           // that are shared
    uint64_t share = 36;     // of 100 operations go to them
    uint64_t truncates = 0;  // of 100 of those change a size
    uint64_t keep_open = 0;  // of 100 leave their file open
};

class Actor {
public:
    static constexpr int kSharedFiles = 3;
    static constexpr uint64_t kSharedPages = 48;
    static constexpr int kLastSteps = 8;  // private operations after the end of all trouble

    Actor(Cluster& cluster, Shared& shared, size_t client, int number, uint64_t seed);

    // Begins, or goes on after the client was started again.
    void client_started();
    void client_died();
    // No new operations; finished() when the last one is through and the final checks are.
    void finish();
    bool finished() const { return finished_; }
    uint64_t operations() const { return operations_; }
    std::string state() const;  // for people: what it is doing

private:
    using FilePtr = std::shared_ptr<PrivateFile>;
    using Names = std::map<std::string, FilePtr>;  // null: a directory
    using Step = std::function<void()>;

    client::Vfs& vfs() { return *cluster_.client(client_).vfs; }
    Process& process() { return cluster_.client(client_); }
    uint64_t epoch();
    // Wraps a callback: dropped when the client died; an error because the session was lost leads
    // to recover(); any other that `allowed` does not name is a violation.
    template <typename T>
    std::function<void(Result<T>)> want(std::function<void(T)> next,
                                        std::vector<Errc> allowed = {},
                                        std::function<void()> instead = {});
    std::function<void(Status)> want_ok(Step next,
                                        std::vector<Errc> allowed = {},
                                        Step instead = {});
    bool troubled(const Status& status, const std::vector<Errc>& allowed, const Step& instead);

    void begin(const char* what);
    void done();
    void next();
    void setup();
    void setup_private();
    void recover();
    void compare_names(const client::DirPage& page);
    void compare_file(const std::vector<std::string>& names, size_t at);
    void read_whole(const std::string& name, std::function<void(Bytes)> then);
    void list(std::function<void(client::DirPage)> then);

    void create_file();
    void write_file(const std::string& name);
    void read_file(const std::string& name);
    void truncate_file(const std::string& name);
    void rename_name(const std::string& name);
    void unlink_name(const std::string& name);
    void stat_name(const std::string& name);
    void list_names();
    void make_or_remove_directory();
    void shared_write();
    void shared_truncate();
    void shared_read(int file, uint64_t page, uint64_t count);
    void open_shared(int file, uint32_t flags, std::function<void(client::HandleId)> then);
    void close_shared(int file, client::HandleId handle, Step then);
    void lock_step();
    void see_lock();
    void check_kept();
    void set_modes(const std::string& name);
    void set_mode(const std::string& name, InodeId ino, client::HandleId handle, int left);
    void see_mode();
    void close(client::HandleId handle, Step then);
    void final_checks(int file);
    std::optional<std::string> any_file();
    static Bytes flat(const client::ReadData& data);
    Bytes random_bytes(size_t size);

    Cluster& cluster_;
    Shared& shared_;
    const size_t client_;
    const int number_;
    Prng random_;
    Prng aside_;  // of the modes
    std::shared_ptr<char> alive_;
    const char* doing_ = "nothing";
    Nanos began_ = 0;
    uint64_t op_epoch_ = 0;
    uint64_t operations_ = 0;
    bool finishing_ = false;
    bool finished_ = false;
    Nanos private_from_ = 0;  // no private work before (the old session may still act)
    bool recovering_needed_ = false;
    InodeId home_;
    Names names_;
    std::optional<Names> doubt_;  // as it is if the operation under way was carried out
    bool holding_ = false;
    size_t hold_ = 0;
    InodeId lock_;
    int last_steps_ = 0;
    std::map<int, client::HandleId> kept_;  // shared files that stay open between operations
    uint64_t kept_epoch_ = 0;
};

template <typename T>
std::function<void(Result<T>)> Actor::want(std::function<void(T)> next,
                                           std::vector<Errc> allowed,
                                           std::function<void()> instead) {
    return [this, alive = std::weak_ptr<char>(alive_), next = std::move(next),
            allowed = std::move(allowed), instead = std::move(instead)](Result<T> result) {
        if (alive.expired()) return;
        // From a task of its own: answers out of memory come from inside the call.
        auto shared = std::make_shared<Result<T>>(std::move(result));
        process().loop->post([this, alive, next, allowed, instead, shared] {
            if (alive.expired()) return;
            if (!troubled(shared->is_ok() ? Status() : shared->status(), allowed, instead)) {
                next(std::move(**shared));
            }
        });
    };
}

}  // namespace lumeofs::sim
