// SPDX-License-Identifier: Apache-2.0
// The real FileSystem: plain system calls. Every error names the call, the path and the errno, and
// carries that errno one to one as its Errc (io for those that Errc does not know); this file and
// fuse/errno_map are the only places that know errno.
//
// O_DIRECT is used when asked for; where the file system refuses it (tmpfs of older kernels, some
// network file systems) the file is opened without, with the same rules of alignment, so that a
// mistake shows everywhere. Directories are made 0750, files 0640.
// Thread-safe; a File has one writer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/env/file_system.h"

namespace lumeofs {

class PosixFileSystem final : public FileSystem {
public:
    Result<std::unique_ptr<File>> open(const std::string& path, const OpenOptions& options) override;
    Status make_dirs(const std::string& path) override;
    Result<std::vector<std::string>> list(const std::string& dir) override;
    Result<bool> exists(const std::string& path) override;
    Status rename(const std::string& from, const std::string& to) override;
    Status remove(const std::string& path) override;
    Status sync_dir(const std::string& dir) override;
    Result<DiskSpace> space(const std::string& dir) override;
    Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;
};

}  // namespace lumeofs
