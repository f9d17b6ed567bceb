// SPDX-License-Identifier: Apache-2.0
// FIFOs, sockets and device nodes.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

void fifo_node() {
    umask(022);
    expect_ok(mkfifo("p", 0666), "mkfifo");
    struct stat status = stat_of("p");
    expect(S_ISFIFO(status.st_mode), "it is a FIFO");
    expect_eq(0644, status.st_mode & 07777, "mode");
    expect_eq(0, status.st_size, "size");
    expect_errno(EEXIST, mkfifo("p", 0666), "mkfifo of a taken name");
    expect_errno(ENOENT, mkfifo("d/p", 0666), "mkfifo in a missing directory");
    expect_errno(ENXIO, open("p", O_WRONLY | O_NONBLOCK), "open for writing without a reader");
    expect_ok(chmod("p", 0600), "chmod");
    expect_eq(0600, stat_of("p").st_mode & 07777, "mode after chmod");
    expect_ok(rename("p", "q"), "rename");
    expect_ok(link("q", "r"), "link");
    expect_eq(2, static_cast<long long>(stat_of("r").st_nlink), "links");
}

void fifo_between_processes() {
    expect_ok(mkfifo("p", 0644), "mkfifo");
    std::string data = pattern(200000);
    pid_t writer = spawn([&] { write_all(open_or_fail("p", O_WRONLY), data); });
    expect_text(data, read_file("p"), "bytes through the FIFO");
    join(writer);
    expect_eq(0, stat_of("p").st_size, "size of the FIFO afterwards");
}

void local_socket() {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "s"};
    auto* name = reinterpret_cast<sockaddr*>(&address);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect_ok(bind(server, name, sizeof address), "bind");
    expect(S_ISSOCK(stat_of("s").st_mode), "it is a socket");
    expect_ok(listen(server, 1), "listen");
    pid_t client = spawn([&] {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        expect_ok(connect(fd, name, sizeof address), "connect");
        write_all(fd, "hello");
    });
    int peer = accept(server, nullptr, nullptr);
    expect_ok(peer, "accept");
    char buffer[16];
    expect_eq(5, recv(peer, buffer, sizeof buffer, MSG_WAITALL), "bytes received");
    join(client);
    int second = socket(AF_UNIX, SOCK_STREAM, 0);
    expect_errno(EADDRINUSE, bind(second, name, sizeof address), "bind of a taken name");
    expect_errno(ENXIO, open("s", O_RDONLY), "open of a socket");
    close(server);
    expect_errno(ECONNREFUSED, connect(second, name, sizeof address), "connect without a server");
    expect_ok(unlink("s"), "unlink");
    expect_errno(ENOENT, connect(second, name, sizeof address), "connect after unlink");
}

void device_nodes() {
    need_root();
    struct Device {
        const char* name;
        mode_t kind;
        unsigned major;
        unsigned minor;
    };
    for (Device device : {Device{"null", S_IFCHR, 1, 3},
                          Device{"disk", S_IFBLK, 8, 17},
                          Device{"large", S_IFCHR, 4095, 1048575},
                          Device{"middle", S_IFBLK, 259, 70000}}) {
        dev_t number = makedev(device.major, device.minor);
        expect_ok(mknod(device.name, device.kind | 0640, number), "mknod");
        struct stat status = stat_of(device.name);
        expect_eq(device.kind, status.st_mode & S_IFMT, "kind");
        expect_eq(0640, status.st_mode & 07777, "mode");
        expect_eq(device.major, major(status.st_rdev), "major number");
        expect_eq(device.minor, minor(status.st_rdev), "minor number");
    }
    expect_errno(EEXIST, mknod("null", S_IFCHR | 0644, makedev(1, 3)), "mknod of a taken name");
    expect_ok(rename("null", "zero"), "rename");
    expect_eq(1, major(stat_of("zero").st_rdev), "major number after rename");
}

void device_works() {
    need_root();
    struct statvfs fs {};
    expect_ok(statvfs(".", &fs), "statvfs");
    if ((fs.f_flag & ST_NODEV) != 0) {
        skip("mounted with nodev");
    }
    expect_ok(mknod("zero", S_IFCHR | 0666, makedev(1, 5)), "mknod");
    int fd = open_or_fail("zero", O_RDONLY);
    std::string bytes(100, 'x');
    expect_eq(100, read(fd, bytes.data(), bytes.size()), "read of the zero device");
    expect(all_zero(bytes), "the zero device gives zeros");
}

void node_of_other_kinds() {
    expect_ok(mknod("f", S_IFREG | 0644, 0), "mknod of a regular file");
    expect(S_ISREG(stat_of("f").st_mode), "it is a regular file");
    write_file("f", "x");
    expect_text("x", read_file("f"), "content");
    expect_ok(mknod("p", S_IFIFO | 0644, 0), "mknod of a FIFO");
    expect_ok(mknod("s", S_IFSOCK | 0644, 0), "mknod of a socket");
    expect(S_ISSOCK(stat_of("s").st_mode), "it is a socket");
    expect_errno(EPERM, mknod("d", S_IFDIR | 0755, 0), "mknod of a directory");
    become(kUser, kGroup);
    expect_errno(EPERM, mknod("c", S_IFCHR | 0644, makedev(1, 3)), "mknod of a device by a user");
    expect_ok(mknod("q", S_IFIFO | 0644, 0), "mknod of a FIFO by a user");
    expect_eq(kUser, stat_of("q").st_uid, "owner");
}

}  // namespace

void add_special_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"special/fifo_node", fifo_node},
                     {"special/fifo_between_processes", fifo_between_processes},
                     {"special/local_socket", local_socket},
                     {"special/device_nodes", device_nodes},
                     {"special/device_works", device_works},
                     {"special/node_of_other_kinds", node_of_other_kinds},
                 });
}

}  // namespace lumeofs::conformance
