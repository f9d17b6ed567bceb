// SPDX-License-Identifier: Apache-2.0
// link(2) and unlink(2): link counts, and files that live on without a name.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

long long links(const std::string& path) { return static_cast<long long>(lstat_of(path).st_nlink); }

void counts() {
    write_file("a", "x");
    timespec change = stat_of("a").st_ctim;
    wait_clock_past(change);
    make_dir("d");
    expect_ok(link("a", "d/b"), "link");
    expect_eq(2, links("a"), "links after link");
    expect_eq(static_cast<long long>(stat_of("a").st_ino),
              static_cast<long long>(stat_of("d/b").st_ino),
              "inode");
    expect(earlier(change, stat_of("a").st_ctim), "ctime is later after link");
    change = stat_of("a").st_ctim;
    wait_clock_past(change);
    expect_ok(unlink("a"), "unlink");
    expect_eq(1, links("d/b"), "links after unlink");
    expect(earlier(change, stat_of("d/b").st_ctim), "ctime is later after unlink");
    expect_text("x", read_file("d/b"), "content");
}

void shared_content() {
    write_file("a", "x");
    expect_ok(link("a", "b"), "link");
    write_file("b", "longer");
    expect_text("longer", read_file("a"), "content by the first name");
    expect_ok(chmod("a", 0600), "chmod");
    expect_eq(0600, stat_of("b").st_mode & 07777, "mode by the second name");
}

void errors() {
    write_file("a", "");
    write_file("b", "");
    make_dir("d");
    expect_errno(EEXIST, link("a", "b"), "link to a taken name");
    expect_errno(EEXIST, link("a", "a"), "link to itself");
    expect_errno(EEXIST, link("a", "d"), "link to a directory's name");
    expect_errno(EPERM, link("d", "e"), "link of a directory");
    expect_errno(ENOENT, link("x", "y"), "link of a missing file");
    expect_errno(ENOENT, link("a", "x/y"), "link into a missing directory");
    expect_errno(ENOTDIR, link("a", "b/y"), "link below a file");
    expect_eq(1, links("a"), "links after the refusals");
}

void of_symlink() {
    write_file("f", "x");
    expect_ok(symlink("f", "l"), "symlink");
    expect_ok(link("l", "m"), "link of a link");
    expect(S_ISLNK(lstat_of("m").st_mode), "the new name is a link too");
    expect_eq(2, links("l"), "links of the link");
    expect_ok(linkat(AT_FDCWD, "l", AT_FDCWD, "n", AT_SYMLINK_FOLLOW), "linkat following");
    expect_eq(2, links("f"), "links of the file");
}

void unlink_errors() {
    make_dir("d");
    write_file("f", "");
    expect_errno_of({EISDIR, EPERM}, unlink("d"), "unlink of a directory");
    expect_errno(ENOENT, unlink("x"), "unlink of a missing file");
    expect_errno(ENOTDIR, unlink("f/"), "unlink of a file with a slash");
    expect_errno(ENOTDIR, unlink("f/x"), "unlink below a file");
    expect_errno(ENOTDIR, rmdir("f"), "rmdir of a file");
    expect_ok(unlink("f"), "unlink");
    expect_errno(ENOENT, unlink("f"), "unlink of a removed file");
}

void unlinked_but_open() {
    std::string data = pattern(150000);
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    write_all(fd, data);
    expect_ok(unlink("f"), "unlink");
    expect(!exists("f"), "the name is gone");
    expect_eq(0, static_cast<long long>(fstat_of(fd).st_nlink), "links");
    expect_text(data, pread_some(fd, data.size() + 1, 0), "content");
    pwrite_all(fd, "more", static_cast<off_t>(data.size()));
    expect_ok(fsync(fd), "fsync");
    expect_eq(static_cast<long long>(data.size()) + 4, fstat_of(fd).st_size, "size after a write");
    expect_ok(ftruncate(fd, 10), "ftruncate");
    expect_ok(fchmod(fd, 0600), "fchmod");
    expect_eq(0600, fstat_of(fd).st_mode & 07777, "mode after fchmod");
    timespec times[2] = {{1000, 0}, {2000, 500}};
    expect_ok(futimens(fd, times), "futimens");
    expect_eq(2000, fstat_of(fd).st_mtim.tv_sec, "mtime after futimens");
    expect_text(data.substr(0, 10), pread_some(fd, 100, 0), "content after ftruncate");
    expect_ok(close(fd), "close");
    expect_eq(0, static_cast<long long>(list_dir(".").size()), "entries (no trace of the file)");
}

void name_reused_while_open() {
    int old = open_or_fail("f", O_RDWR | O_CREAT);
    write_all(old, "old");
    expect_ok(unlink("f"), "unlink");
    write_file("f", "new one");
    expect(fstat_of(old).st_ino != stat_of("f").st_ino, "the new file has its own inode");
    pwrite_all(old, "OLD", 0);
    expect_text("new one", read_file("f"), "content of the new file");
    expect_text("OLD", pread_some(old, 10, 0), "content of the old file");
}

void unlinked_in_child() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    write_all(fd, "abc");
    join(spawn([] { expect_ok(unlink("f"), "unlink in a child"); }));
    expect_errno(ENOENT, open("f", O_RDONLY), "open after the child's unlink");
    expect_text("abc", pread_some(fd, 10, 0), "content");
    join(spawn([fd] { pwrite_all(fd, "xyz", 0); }));
    expect_text("xyz", pread_some(fd, 10, 0), "content after the child's write");
}

void unlinked_and_mapped() {
    std::string data = pattern(9000);
    write_file("f", data);
    int fd = open_or_fail("f", O_RDWR);
    void* map = mmap(nullptr, data.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    expect(map != MAP_FAILED, "mmap");
    close(fd);
    expect_ok(unlink("f"), "unlink");
    expect_text(data, std::string(static_cast<char*>(map), data.size()), "content of the mapping");
    static_cast<char*>(map)[5000] = 'Z';
    expect_ok(msync(map, data.size(), MS_SYNC), "msync of an unlinked file");
    expect_eq('Z', static_cast<char*>(map)[5000], "byte after msync");
}

void no_new_link_of_nameless_file() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    expect_ok(unlink("f"), "unlink");
    std::string self = "/proc/self/fd/" + std::to_string(fd);
    expect_errno(ENOENT,
                 linkat(AT_FDCWD, self.c_str(), AT_FDCWD, "g", AT_SYMLINK_FOLLOW),
                 "link of a file without names");
}

void hundred_unlinked_files() {
    std::vector<int> fds;
    for (int i = 0; i < 100; ++i) {
        std::string name = "f" + std::to_string(i);
        fds.push_back(open_or_fail(name, O_RDWR | O_CREAT));
        write_all(fds.back(), name);
        expect_ok(unlink(name.c_str()), "unlink");
    }
    expect_eq(0, static_cast<long long>(list_dir(".").size()), "entries");
    for (int i = 0; i < 100; ++i) {
        expect_text(
            "f" + std::to_string(i), pread_some(fds[static_cast<size_t>(i)], 20, 0), "content");
    }
}

void make_links(int count) {
    write_file("f", "x");
    for (int i = 1; i < count; ++i) {
        expect_ok(link("f", ("l" + std::to_string(i)).c_str()), "link");
    }
    expect_eq(count, links("f"), "links");
    expect_eq(count, static_cast<long long>(list_dir(".").size()), "entries");
}

void thousand_links() { make_links(1000); }

void sixty_five_thousand_links() { make_links(65000); }

void parent_times() {
    make_dir("d");
    write_file("f", "");
    timespec before = stat_of("d").st_mtim;
    wait_clock_past(before);
    expect_ok(link("f", "d/l"), "link");
    timespec linked = stat_of("d").st_mtim;
    expect(earlier(before, linked), "mtime of the directory is later after link");
    wait_clock_past(linked);
    expect_ok(unlink("d/l"), "unlink");
    expect(earlier(linked, stat_of("d").st_mtim), "mtime of the directory is later after unlink");
}

}  // namespace

void add_link_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"link/counts", counts},
                     {"link/shared_content", shared_content},
                     {"link/errors", errors},
                     {"link/of_symlink", of_symlink},
                     {"link/thousand_links", thousand_links},
                     {"link/sixty_five_thousand_links", sixty_five_thousand_links, true},
                     {"link/parent_times", parent_times},
                     {"unlink/errors", unlink_errors},
                     {"unlink/unlinked_but_open", unlinked_but_open},
                     {"unlink/name_reused_while_open", name_reused_while_open},
                     {"unlink/unlinked_in_child", unlinked_in_child},
                     {"unlink/unlinked_and_mapped", unlinked_and_mapped},
                     {"unlink/no_new_link_of_nameless_file", no_new_link_of_nameless_file},
                     {"unlink/hundred_unlinked_files", hundred_unlinked_files},
                 });
}

}  // namespace lumeofs::conformance
