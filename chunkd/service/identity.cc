// SPDX-License-Identifier: Apache-2.0
#include "chunkd/service/identity.h"

#include <fmt/format.h>

#include <cinttypes>
#include <cstdio>

namespace lumeofs::chunkd {

Result<std::unique_ptr<NodeIdentity>> NodeIdentity::open(FileSystem& fs,
                                                         const std::string& dir,
                                                         NodeId node,
                                                         Prng& random) {
    LFS_TRY(fs.make_dirs(dir));
    std::unique_ptr<NodeIdentity> identity(new NodeIdentity(fs, dir + "/chunkd.identity", node));
    auto lock = fs.lock(dir + "/chunkd.lock");
    if (lock.code() == Errc::busy) {
        return Status(Errc::busy, dir + " is in use by another lumeofs-chunkd (its lock is held)");
    }
    LFS_ASSIGN(identity->lock_, std::move(lock));
    LFS_ASSIGN(bool known, fs.exists(identity->path_));
    if (!known) {
        identity->uuid_high = random.next();
        identity->uuid_low = random.next();
        LFS_TRY(identity->save());
        return identity;
    }
    LFS_ASSIGN(Bytes bytes, read_file(fs, identity->path_, 4096));
    const std::string text(as_text(bytes));
    uint64_t owner = 0;
    const int fields = std::sscanf(text.c_str(),
                                   "format 1\nnode %" SCNu64 "\nuuid %" SCNu64 " %" SCNu64
                                   "\ncluster %" SCNu64 " %" SCNu64 "\n",
                                   &owner,
                                   &identity->uuid_high,
                                   &identity->uuid_low,
                                   &identity->cluster_high,
                                   &identity->cluster_low);
    if (fields != 5) return Status(Errc::corrupt, identity->path_ + " is malformed");
    if (NodeId{owner} != node) {
        return Status(Errc::config,
                      fmt::format("{} belongs to another node: expected node {}, found {}. Start "
                                  "chunkd with that node's configuration, or use an empty directory",
                                  dir,
                                  node.value,
                                  owner));
    }
    return identity;
}

Status NodeIdentity::join_cluster(uint64_t high, uint64_t low) {
    if (cluster_high == high && cluster_low == low) return Status();
    if (has_cluster()) {
        return Status(Errc::config,
                      fmt::format("{} belongs to another cluster: expected {:016x}{:016x}, the metad "
                                  "is of {:016x}{:016x}. Use an empty directory, or that cluster's "
                                  "master_address",
                                  path_,
                                  cluster_high,
                                  cluster_low,
                                  high,
                                  low));
    }
    cluster_high = high;
    cluster_low = low;
    return save();
}

Status NodeIdentity::save() {
    const std::string text = fmt::format("format 1\nnode {}\nuuid {} {}\ncluster {} {}\n",
                                         node_.value,
                                         uuid_high,
                                         uuid_low,
                                         cluster_high,
                                         cluster_low);
    return replace_file(fs_, path_, as_view(text));
}

}  // namespace lumeofs::chunkd
