// SPDX-License-Identifier: Apache-2.0
#include "common/env/file_system.h"

namespace lumeofs {

std::string parent_dir(const std::string& path) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

Result<Bytes> read_file(FileSystem& fs, const std::string& path, uint64_t size_max) {
    LFS_ASSIGN(auto file, fs.open(path, {.read_only = true}));
    LFS_ASSIGN(uint64_t size, file->size());
    if (size > size_max) {
        return Status(Errc::corrupt,
                      path + " has " + std::to_string(size) + " bytes, at most " +
                          std::to_string(size_max) + " are expected");
    }
    Bytes bytes(size);
    LFS_ASSIGN(size_t got, file->read_at(0, bytes));
    bytes.resize(got);
    return bytes;
}

Status replace_file(FileSystem& fs, const std::string& path, View bytes) {
    const std::string temporary = path + ".tmp";
    LFS_ASSIGN(auto file, fs.open(temporary, {.create = true, .truncate = true}));
    LFS_TRY(file->write_at(0, bytes));
    LFS_TRY(file->sync());
    file.reset();
    LFS_TRY(fs.rename(temporary, path));
    return fs.sync_dir(parent_dir(path));
}

}  // namespace lumeofs
