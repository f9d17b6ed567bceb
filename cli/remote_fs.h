// SPDX-License-Identifier: Apache-2.0
// RemoteFs: the client library for a program that does one thing at a time: every call waits for
// its answer. Writes are write-behind and reads are read ahead all the same (client/vfs.h).
// Blocking; single-thread: main (the work runs on its own loop).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/types.h"
#include "common/base/result.h"

namespace lumeofs::cli {

class RemoteFs {
public:
    RemoteFs();
    ~RemoteFs();  // writes back; errors of that were shown by close_written()
    RemoteFs(const RemoteFs&) = delete;
    RemoteFs& operator=(const RemoteFs&) = delete;

    // Errc::unavailable, with each host's reason, if no leader can be asked now.
    Status connect(const std::vector<std::string>& metads);

    Result<client::Attr> find(const std::string& path);  // symbolic links are followed
    Result<client::Attr> make_directory(const std::string& path, uint32_t mode);  // may exist
    Result<std::vector<client::DirEntry>> list(InodeId directory);
    // Made or emptied, for writing.
    Result<client::HandleId> create(const std::string& path, uint32_t mode);
    Result<client::HandleId> open(InodeId file);
    Status write(client::HandleId handle, uint64_t offset, Buffer data);
    // Short only at the end.
    Result<client::ReadData> read(client::HandleId handle, uint64_t offset, uint64_t size);
    Status close_written(client::HandleId handle);  // the data is on stable storage
    void close(client::HandleId handle);

private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace lumeofs::cli
