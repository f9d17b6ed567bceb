// SPDX-License-Identifier: Apache-2.0
// The handlers, by topic. Each reads its arguments, calls the client, and answers once.
#pragma once

#include "fuse/session.h"

namespace lumeofs::fusefs {

void add_name_operations(fuse_lowlevel_ops* table);       // lookup, mknod, link, unlink, rename, …
void add_attribute_operations(fuse_lowlevel_ops* table);  // getattr, setattr, statfs, xattrs
void add_file_operations(fuse_lowlevel_ops* table);       // create, open, read, write, fsync, …
void add_directory_operations(fuse_lowlevel_ops* table);  // opendir, readdir, readdirplus, …

}  // namespace lumeofs::fusefs
