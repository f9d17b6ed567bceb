// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_sqlite_vfs.h"

#include <sqlite3.h>

#include <cstring>
#include <new>

#include "common/base/prng.h"

namespace lumeofs::sim {

struct SimSqliteVfs::State {
    State(FileSystem& f, uint64_t seed) : fs(f), random(seed) {}
    FileSystem& fs;
    Prng random;
};

namespace {

struct OpenFile {
    sqlite3_file base;
    FileSystem* fs;
    std::unique_ptr<File> file;
    std::string path;
    bool dir_unsynced;
    bool remove_on_close;
};

OpenFile& of(sqlite3_file* file) { return *reinterpret_cast<OpenFile*>(file); }

int code_of(const Status& status, int error) {
    return status.code() == Errc::nospc ? SQLITE_FULL : error;
}

int x_close(sqlite3_file* file) {
    OpenFile& open = of(file);
    open.file.reset();
    if (open.remove_on_close) ignore(open.fs->remove(open.path), "a temporary file");
    open.~OpenFile();
    return SQLITE_OK;
}

int x_read(sqlite3_file* file, void* into, int amount, sqlite3_int64 offset) {
    MutableView view(static_cast<uint8_t*>(into), static_cast<size_t>(amount));
    auto got = of(file).file->read_at(static_cast<uint64_t>(offset), view);
    if (!got.is_ok()) return SQLITE_IOERR_READ;
    if (*got == view.size()) return SQLITE_OK;
    std::memset(view.data() + *got, 0, view.size() - *got);
    return SQLITE_IOERR_SHORT_READ;
}

int x_write(sqlite3_file* file, const void* from, int amount, sqlite3_int64 offset) {
    View view(static_cast<const uint8_t*>(from), static_cast<size_t>(amount));
    Status status = of(file).file->write_at(static_cast<uint64_t>(offset), view);
    return status.is_ok() ? SQLITE_OK : code_of(status, SQLITE_IOERR_WRITE);
}

int x_truncate(sqlite3_file* file, sqlite3_int64 size) {
    Status status = of(file).file->truncate(static_cast<uint64_t>(size));
    return status.is_ok() ? SQLITE_OK : code_of(status, SQLITE_IOERR_TRUNCATE);
}

int x_sync(sqlite3_file* file, int /*flags*/) {
    OpenFile& open = of(file);
    if (!open.file->sync().is_ok()) return SQLITE_IOERR_FSYNC;
    if (open.dir_unsynced) {
        if (!open.fs->sync_dir(parent_dir(open.path)).is_ok()) return SQLITE_IOERR_DIR_FSYNC;
        open.dir_unsynced = false;
    }
    return SQLITE_OK;
}

int x_file_size(sqlite3_file* file, sqlite3_int64* size) {
    auto got = of(file).file->size();
    if (!got.is_ok()) return SQLITE_IOERR_FSTAT;
    *size = static_cast<sqlite3_int64>(*got);
    return SQLITE_OK;
}

int x_lock(sqlite3_file* /*file*/, int /*level*/) { return SQLITE_OK; }
int x_check_reserved(sqlite3_file* /*file*/, int* out) {
    *out = 0;
    return SQLITE_OK;
}
int x_control(sqlite3_file* /*file*/, int /*op*/, void* /*arg*/) { return SQLITE_NOTFOUND; }
int x_sector_size(sqlite3_file* /*file*/) { return 512; }
int x_characteristics(sqlite3_file* /*file*/) { return 0; }

const sqlite3_io_methods kMethods = {1, x_close, x_read, x_write, x_truncate, x_sync, x_file_size,
                                     x_lock, x_lock, x_check_reserved, x_control, x_sector_size,
                                     x_characteristics, nullptr, nullptr, nullptr, nullptr, nullptr,
                                     nullptr};

template <typename StateT>
StateT& state_of(sqlite3_vfs* vfs) {
    return *static_cast<StateT*>(vfs->pAppData);
}

int x_full_path(sqlite3_vfs* /*vfs*/, const char* name, int size, char* out) {
    if (std::strlen(name) + 1 > static_cast<size_t>(size)) return SQLITE_CANTOPEN;
    std::memcpy(out, name, std::strlen(name) + 1);
    return SQLITE_OK;
}

int x_sleep(sqlite3_vfs* /*vfs*/, int micros) { return micros; }
int x_current_time(sqlite3_vfs* /*vfs*/, double* days) {
    *days = 2'460'000.5;
    return SQLITE_OK;
}
int x_last_error(sqlite3_vfs* /*vfs*/, int /*size*/, char* /*out*/) { return 0; }

template <typename StateT>
int x_open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    StateT& state = state_of<StateT>(vfs);
    file->pMethods = nullptr;
    const bool temporary = name == nullptr;
    const std::string path =
        temporary ? "/sqlite-temp-" + std::to_string(state.random.next()) : std::string(name);
    OpenOptions options;
    options.create = (flags & SQLITE_OPEN_CREATE) != 0 || temporary;
    options.read_only = (flags & SQLITE_OPEN_READONLY) != 0;
    auto existed = state.fs.exists(path);
    if (!existed.is_ok()) return SQLITE_CANTOPEN;
    auto opened = state.fs.open(path, options);
    if (!opened.is_ok()) return SQLITE_CANTOPEN;
    auto* open = new (file) OpenFile{};
    open->base.pMethods = &kMethods;
    open->fs = &state.fs;
    open->file = std::move(*opened);
    open->path = path;
    open->dir_unsynced = !*existed;
    open->remove_on_close = temporary || (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    if (out_flags != nullptr) *out_flags = flags;
    return SQLITE_OK;
}

template <typename StateT>
int x_delete(sqlite3_vfs* vfs, const char* name, int sync_dir) {
    FileSystem& fs = state_of<StateT>(vfs).fs;
    Status status = fs.remove(name);
    if (status.code() == Errc::noent) return SQLITE_IOERR_DELETE_NOENT;
    if (!status.is_ok()) return SQLITE_IOERR_DELETE;
    if (sync_dir != 0 && !fs.sync_dir(parent_dir(name)).is_ok()) return SQLITE_IOERR_DIR_FSYNC;
    return SQLITE_OK;
}

template <typename StateT>
int x_access(sqlite3_vfs* vfs, const char* name, int /*flags*/, int* out) {
    auto found = state_of<StateT>(vfs).fs.exists(name);
    if (!found.is_ok()) return SQLITE_IOERR_ACCESS;
    *out = *found ? 1 : 0;
    return SQLITE_OK;
}

template <typename StateT>
int x_randomness(sqlite3_vfs* vfs, int size, char* out) {
    for (int i = 0; i < size; ++i) {
        out[i] = static_cast<char>(state_of<StateT>(vfs).random.below(256));
    }
    return size;
}

}  // namespace

SimSqliteVfs::SimSqliteVfs(std::string name, FileSystem& fs, uint64_t seed)
    : name_(std::move(name)),
      state_(std::make_unique<State>(fs, seed)),
      vfs_(std::make_unique<sqlite3_vfs>()) {
    vfs_->iVersion = 1;
    vfs_->szOsFile = sizeof(OpenFile);
    vfs_->mxPathname = 4096;
    vfs_->zName = name_.c_str();
    vfs_->pAppData = state_.get();
    vfs_->xOpen = x_open<State>;
    vfs_->xDelete = x_delete<State>;
    vfs_->xAccess = x_access<State>;
    vfs_->xFullPathname = x_full_path;
    vfs_->xRandomness = x_randomness<State>;
    vfs_->xSleep = x_sleep;
    vfs_->xCurrentTime = x_current_time;
    vfs_->xGetLastError = x_last_error;
    sqlite3_vfs_register(vfs_.get(), 0);
}

SimSqliteVfs::~SimSqliteVfs() { sqlite3_vfs_unregister(vfs_.get()); }

void SimSqliteVfs::seed_sqlite(uint64_t seed) {
    sqlite3_initialize();
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, static_cast<int>(seed | 1), nullptr);
    sqlite3_randomness(0, nullptr);
}

}  // namespace lumeofs::sim
