// SPDX-License-Identifier: Apache-2.0
// Names and paths: lengths, strange bytes, and statvfs(2) which states the limits.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <set>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

void longest() {
    std::string name(255, 'n');
    write_file(name, "x");
    expect_text("x", read_file(name), "content of a file with 255 bytes of name");
    expect_text(name, list_dir(".").at(0), "name in the list");
    std::string other(255, 'm');
    expect_ok(rename(name.c_str(), other.c_str()), "rename");
    expect_ok(unlink(other.c_str()), "unlink");
    make_dir(name);
    expect_ok(rmdir(name.c_str()), "rmdir");
}

void too_long() {
    std::string name(256, 'n');
    const char* n = name.c_str();
    write_file("f", "");
    expect_errno(ENAMETOOLONG, open(n, O_RDWR | O_CREAT, 0644), "create");
    expect_errno(ENAMETOOLONG, open(n, O_RDONLY), "open");
    expect_errno(ENAMETOOLONG, mkdir(n, 0755), "mkdir");
    expect_errno(ENAMETOOLONG, rmdir(n), "rmdir");
    expect_errno(ENAMETOOLONG, unlink(n), "unlink");
    expect_errno(ENAMETOOLONG, symlink("x", n), "symlink");
    expect_errno(ENAMETOOLONG, link("f", n), "link");
    expect_errno(ENAMETOOLONG, rename("f", n), "rename to it");
    expect_errno(ENAMETOOLONG, rename(n, "g"), "rename of it");
    expect_errno(ENAMETOOLONG, mkfifo(n, 0644), "mkfifo");
    expect_errno(ENAMETOOLONG, truncate(n, 0), "truncate");
    struct stat status {};
    expect_errno(ENAMETOOLONG, stat(n, &status), "stat");
    expect_errno(ENAMETOOLONG, stat((name + "/x").c_str(), &status), "stat below it");
}

void longest_path() {
    std::string path = ".";
    while (path.size() + 201 < PATH_MAX - 1) {
        path += "/" + std::string(200, 'd');
        make_dir(path);
    }
    size_t room = PATH_MAX - 1 - path.size();  // the path and its final zero byte take PATH_MAX
    std::string file = path + "/" + std::string(room - 1, 'f');
    expect_eq(4095, static_cast<long long>(file.size()), "length of the path");
    write_file(file, "x");
    expect_text("x", read_file(file), "content by a path of 4095 bytes");
    expect_errno(ENAMETOOLONG, open((file + "f").c_str(), O_RDONLY), "path of 4096 bytes");
    expect_ok(unlink(file.c_str()), "unlink");
}

void every_byte() {
    std::set<std::string> names;
    for (int byte = 1; byte < 256; ++byte) {
        char c = static_cast<char>(byte);
        if (c == '/') {
            continue;
        }
        for (const std::string& name :
             {std::string(1, c), "a" + std::string(1, c), std::string(3, c) + "z"}) {
            if (name != ".") {
                write_file(name, name);
                names.insert(name);
            }
        }
    }
    std::vector<std::string> found = list_dir(".");
    expect(names == std::set<std::string>(found.begin(), found.end()),
           "the list has exactly these names");
    for (const std::string& name : names) {
        expect_text(name, read_file(name), "content");
        expect_ok(unlink(name.c_str()), "unlink");
    }
}

void kept_apart() {
    std::vector<std::string> names{"name",  "Name",     "NAME",      "name ",     " name",
                                   "name.", "\xc3\xa9", "e\xcc\x81", "E\xcc\x81",  // é, two ways
                                   "...",   "..a",      "-rf",       "~",         "#x#",
                                   "a\\b",  "a:b",      "con",       "\xff\xfe",  "\xc0\x80",
                                   "*",     "?",        "%2f",       "$HOME"};
    for (const std::string& name : names) {
        write_file(name, name);
    }
    expect_eq(static_cast<long long>(names.size()),
              static_cast<long long>(list_dir(".").size()),
              "files");
    for (const std::string& name : names) {
        expect_text(name, read_file(name), "content");
    }
    expect_errno(ENOENT, open("nAme", O_RDONLY), "a name in another case");
}

void slashes_and_dots() {
    make_dir("d");
    write_file("d/f", "x");
    for (const char* path : {"d//f", "d/./f", ".//d///f", "d/../d/f", "./d/././../d/f"}) {
        expect_text("x", read_file(path), std::string("content by ") + path);
    }
    expect_errno(ENOENT, open("d/../x/../d/f", O_RDONLY), "path through a missing directory");
    expect_errno(ENOTDIR, open("d/f/../f", O_RDONLY), "path through a file");
    struct stat status {};
    expect_errno(ENOENT, stat("", &status), "stat of an empty path");
    expect_errno_of({EEXIST}, mkdir("..", 0755), "mkdir of ..");
    expect_errno_of({EISDIR, EPERM, EINVAL}, unlink("."), "unlink of .");
}

void statfs_numbers() {
    struct statvfs fs {};
    expect_ok(statvfs(".", &fs), "statvfs");
    expect_eq(255, static_cast<long long>(fs.f_namemax), "longest name");
    expect(fs.f_frsize >= 512, "fragment size");
    expect(fs.f_bsize >= 512, "block size");
    expect(fs.f_blocks > 0, "blocks");
    expect(fs.f_bfree <= fs.f_blocks, "free blocks are no more than all");
    expect(fs.f_bavail <= fs.f_bfree, "available blocks are no more than the free ones");
    expect(fs.f_ffree <= fs.f_files, "free inodes are no more than all");
    make_dir("d");
    write_file("d/f", "x");
    struct statvfs other {};
    expect_ok(statvfs("d/f", &other), "statvfs of a file");
    expect_eq(static_cast<long long>(fs.f_blocks),
              static_cast<long long>(other.f_blocks),
              "blocks by a file");
    expect_ok(fstatvfs(open_or_fail("d", O_RDONLY | O_DIRECTORY), &other),
              "fstatvfs of a directory");
    expect_eq(static_cast<long long>(fs.f_namemax),
              static_cast<long long>(other.f_namemax),
              "longest name");
    expect_errno(ENOENT, statvfs("x", &other), "statvfs of a missing file");
    expect_eq(255, pathconf(".", _PC_NAME_MAX), "pathconf of the longest name");
    expect(pathconf(".", _PC_LINK_MAX) > 1, "pathconf of the most links");
}

}  // namespace

void add_name_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"name/longest", longest},
                     {"name/too_long", too_long},
                     {"name/longest_path", longest_path},
                     {"name/every_byte", every_byte},
                     {"name/kept_apart", kept_apart},
                     {"name/slashes_and_dots", slashes_and_dots},
                 });
}

void add_statfs_cases(Cases& cases) { cases.push_back({"statfs/numbers", statfs_numbers}); }

}  // namespace lumeofs::conformance
