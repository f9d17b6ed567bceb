// SPDX-License-Identifier: Apache-2.0
// Extended attributes of the user name space.
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

long put(const char* path, const std::string& name, const std::string& value, int flags = 0) {
    return setxattr(path, name.c_str(), value.data(), value.size(), flags);
}

std::string get(const char* path, const char* name) {
    std::string buffer(70000, '\0');
    long length = expect_ok(getxattr(path, name, buffer.data(), buffer.size()), "getxattr");
    buffer.resize(static_cast<size_t>(length));
    return buffer;
}

std::vector<std::string> names_of(const char* path) {
    std::string buffer(70000, '\0');
    long length = expect_ok(listxattr(path, buffer.data(), buffer.size()), "listxattr");
    std::vector<std::string> names;
    for (size_t at = 0; at < static_cast<size_t>(length);) {
        std::string name = buffer.c_str() + at;
        at += name.size() + 1;
        if (name.starts_with("user.")) {  // the system may have added others
            names.push_back(name);
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

void set_and_get() {
    write_file("f", "");
    ok_or_skip(put("f", "user.a", "one"), "setxattr");
    expect_text("one", get("f", "user.a"), "value");
    expect_ok(put("f", "user.a", "other value"), "setxattr again");
    expect_text("other value", get("f", "user.a"), "new value");
    expect_ok(put("f", "user.empty", ""), "setxattr of an empty value");
    expect_text("", get("f", "user.empty"), "empty value");
    std::string binary = pattern(300) + std::string(5, '\0') + "x";
    expect_ok(put("f", "user.bin", binary), "setxattr of bytes");
    expect_text(binary, get("f", "user.bin"), "bytes");
    expect_errno(ENODATA, getxattr("f", "user.none", nullptr, 0), "getxattr of a missing name");
    expect_errno(ENOENT, getxattr("x", "user.a", nullptr, 0), "getxattr of a missing file");
    int fd = open_or_fail("f", O_RDONLY);
    expect_ok(fsetxattr(fd, "user.fd", "v", 1, 0), "fsetxattr");
    expect_eq(1, fgetxattr(fd, "user.fd", nullptr, 0), "fgetxattr");
    expect_ok(fremovexattr(fd, "user.fd"), "fremovexattr");
}

void create_and_replace() {
    write_file("f", "");
    expect_errno(
        ENODATA, put("f", "user.a", "x", XATTR_REPLACE), "XATTR_REPLACE of a missing name");
    ok_or_skip(put("f", "user.a", "x", XATTR_CREATE), "XATTR_CREATE");
    expect_errno(EEXIST, put("f", "user.a", "y", XATTR_CREATE), "XATTR_CREATE of a taken name");
    expect_text("x", get("f", "user.a"), "value after the refusal");
    expect_ok(put("f", "user.a", "z", XATTR_REPLACE), "XATTR_REPLACE");
    expect_text("z", get("f", "user.a"), "value");
    expect_errno(EINVAL, put("f", "user.a", "z", 64), "unknown flag");
}

void sizes() {
    write_file("f", "");
    ok_or_skip(put("f", "user.a", "12345"), "setxattr");
    char few[4];
    expect_eq(5, getxattr("f", "user.a", nullptr, 0), "size asked for");
    expect_errno(ERANGE, getxattr("f", "user.a", few, sizeof few), "getxattr into a small buffer");
    expect(expect_ok(listxattr("f", nullptr, 0), "listxattr") >= 7, "size of the list");
    expect_errno(ERANGE, listxattr("f", few, sizeof few), "listxattr into a small buffer");
    std::string name = "user." + std::string(250, 'n');
    expect_ok(put("f", name, "v"), "name of 255 bytes");
    expect_text("v", get("f", name.c_str()), "value of the long name");
    expect_errno(ERANGE, put("f", name + "n", "v"), "name of 256 bytes");
    expect_ok(put("f", "user.big", pattern(3000)), "value of 3,000 bytes");
    expect_text(pattern(3000), get("f", "user.big"), "large value");
    expect_errno(E2BIG, put("f", "user.huge", std::string(65537, 'x')), "value of 65,537 bytes");
    expect_eq(3, static_cast<long long>(names_of("f").size()), "names");
}

void list_and_remove() {
    write_file("f", "");
    std::vector<std::string> expected;
    for (int i = 10; i < 40; ++i) {
        expected.push_back("user.name" + std::to_string(i));
        ok_or_skip(put("f", expected.back(), std::to_string(i)), "setxattr");
    }
    expect(expected == names_of("f"), "the list has all names");
    for (int i = 10; i < 40; i += 2) {
        expect_ok(removexattr("f", ("user.name" + std::to_string(i)).c_str()), "removexattr");
    }
    expect_eq(15, static_cast<long long>(names_of("f").size()), "names left");
    expect_errno(ENODATA, removexattr("f", "user.name10"), "removexattr of a removed name");
    expect_text("11", get("f", "user.name11"), "a value that stays");
}

void follows_the_file() {
    write_file("f", "");
    make_dir("d");
    ok_or_skip(put("f", "user.a", "x"), "setxattr");
    expect_ok(put("d", "user.a", "of the directory"), "setxattr of a directory");
    expect_ok(link("f", "g"), "link");
    expect_text("x", get("g", "user.a"), "value by another name");
    expect_ok(rename("f", "d/f"), "rename");
    expect_text("x", get("d/f", "user.a"), "value after rename");
    expect_ok(unlink("g") | unlink("d/f"), "unlink");
    write_file("f", "");
    expect_eq(0, static_cast<long long>(names_of("f").size()), "names of a new file");
    expect_text("of the directory", get("d", "user.a"), "value of the directory");
}

void kinds_of_files() {
    expect_ok(symlink("nowhere", "l"), "symlink");
    expect_errno_of(
        {EPERM, EOPNOTSUPP}, lsetxattr("l", "user.a", "x", 1, 0), "user attribute of a link");
    expect_ok(mkfifo("p", 0644), "mkfifo");
    expect_errno_of({EPERM, EOPNOTSUPP}, put("p", "user.a", "x"), "user attribute of a FIFO");
    write_file("f", "");
    expect_errno(EOPNOTSUPP, put("f", "nospace.a", "x"), "unknown name space");
    expect_errno(EOPNOTSUPP, put("f", "plain", "x"), "name without a name space");
    expect_errno_of(
        {EINVAL, EOPNOTSUPP, ERANGE}, put("f", "user.", "x"), "name of nothing but its space");
}

void rights() {
    need_root();
    write_file("f", "");
    ok_or_skip(put("f", "user.a", "x"), "setxattr");
    expect_ok(chmod("f", 0644), "chmod");
    join(spawn([] {
        become(kUser, kGroup);
        expect_text("x", get("f", "user.a"), "value with read permission");
        expect_errno(EACCES, put("f", "user.a", "y"), "setxattr without write permission");
        expect_errno(EACCES, removexattr("f", "user.a"), "removexattr without write permission");
    }));
    expect_ok(chmod("f", 0600), "chmod");
    join(spawn([] {
        become(kUser, kGroup);
        expect_errno(
            EACCES, getxattr("f", "user.a", nullptr, 0), "getxattr without read permission");
    }));
}

void of_an_unlinked_file() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    ok_or_skip(fsetxattr(fd, "user.a", "x", 1, 0), "fsetxattr");
    expect_ok(unlink("f"), "unlink");
    expect_eq(1, fgetxattr(fd, "user.a", nullptr, 0), "fgetxattr after unlink");
    expect_ok(fsetxattr(fd, "user.b", "yz", 2, 0), "fsetxattr after unlink");
    expect_eq(2, fgetxattr(fd, "user.b", nullptr, 0), "fgetxattr of the new one");
}

void trusted() {
    need_root();
    write_file("f", "");
    ok_or_skip(put("f", "trusted.a", "x"), "trusted attribute");
    expect_text("x", get("f", "trusted.a"), "value");
    join(spawn([] {
        become(kUser, kGroup);
        expect_errno(
            ENODATA, getxattr("f", "trusted.a", nullptr, 0), "trusted attribute by a user");
    }));
}

}  // namespace

void add_xattr_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"xattr/set_and_get", set_and_get},
                     {"xattr/create_and_replace", create_and_replace},
                     {"xattr/sizes", sizes},
                     {"xattr/list_and_remove", list_and_remove},
                     {"xattr/follows_the_file", follows_the_file},
                     {"xattr/kinds_of_files", kinds_of_files},
                     {"xattr/rights", rights},
                     {"xattr/of_an_unlinked_file", of_an_unlinked_file},
                     {"xattr/trusted", trusted},
                 });
}

}  // namespace lumeofs::conformance
