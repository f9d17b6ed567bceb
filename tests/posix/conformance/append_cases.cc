// SPDX-License-Identifier: Apache-2.0
// O_APPEND by several processes and descriptors: no record lost, none torn, order kept per writer.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

// A record's length depends on its number, so that records cross block boundaries.
std::string record(unsigned writer, unsigned number) {
    char header[16];
    unsigned length = 10 + (number * 37 + writer * 11) % 200;
    std::snprintf(header, sizeof header, "%02x%04x%02x", writer, number, length);
    std::string out = header;
    out += std::string(length - 1, static_cast<char>('a' + (writer + number) % 26));
    return out + "\n";
}

void check_records(const std::string& content, unsigned writers, unsigned each) {
    std::vector<unsigned> next(writers, 0);
    size_t at = 0;
    while (at < content.size()) {
        unsigned writer = 0;
        unsigned number = 0;
        expect(
            std::sscanf(content.c_str() + at, "%2x%4x", &writer, &number) == 2 && writer < writers,
            "a record header stands at byte " + std::to_string(at));
        expect_eq(next[writer], number, "number of the record at byte " + std::to_string(at));
        std::string whole = record(writer, number);
        expect_text(
            whole, content.substr(at, whole.size()), "record at byte " + std::to_string(at));
        at += whole.size();
        ++next[writer];
    }
    for (unsigned writer = 0; writer < writers; ++writer) {
        expect_eq(each, next[writer], "records of writer " + std::to_string(writer));
    }
}

void run_writers(unsigned writers, unsigned each, bool sync, bool reopen) {
    std::vector<pid_t> pids;
    for (unsigned writer = 0; writer < writers; ++writer) {
        pids.push_back(spawn([=] {
            int fd = open_or_fail("f", O_WRONLY | O_APPEND | O_CREAT);
            for (unsigned number = 0; number < each; ++number) {
                std::string text = record(writer, number);
                expect_eq(static_cast<long long>(text.size()),
                          write(fd, text.data(), text.size()),
                          "bytes appended");
                if (sync && number % 10 == 0) {
                    expect_ok(fsync(fd), "fsync");
                }
                if (reopen && number % 5 == 0) {
                    expect_ok(close(fd), "close");
                    fd = open_or_fail("f", O_WRONLY | O_APPEND);
                }
            }
        }));
    }
    join_all(pids);
    check_records(read_file("f"), writers, each);
}

void several_processes() { run_writers(4, 500, false, false); }

void with_fsync() { run_writers(3, 100, true, false); }

void with_reopen() { run_writers(3, 100, false, true); }

void two_descriptors() {
    int a = open_or_fail("f", O_WRONLY | O_APPEND | O_CREAT);
    int b = open_or_fail("f", O_WRONLY | O_APPEND);
    for (unsigned i = 0; i < 200; ++i) {
        std::string text = record(i % 2, i / 2);
        write_all(i % 2 == 0 ? a : b, text);
    }
    check_records(read_file("f"), 2, 100);
}

void append_beside_plain_writer() {
    int plain = open_or_fail("f", O_RDWR | O_CREAT);
    pwrite_all(plain, "0123456789", 0);
    int appender = open_or_fail("f", O_WRONLY | O_APPEND);
    write_all(appender, "A");
    pwrite_all(plain, "x", 20);
    write_all(appender, "B");
    std::string expected = "0123456789A";
    expected.resize(20);
    expect_text(expected + "xB", read_file("f"), "content");
}

void append_and_truncate() {
    int fd = open_or_fail("f", O_RDWR | O_APPEND | O_CREAT);
    for (int i = 0; i < 100; ++i) {
        write_all(fd, pattern(3000, 1));
        expect_ok(truncate("f", 100), "truncate");
        write_all(fd, "end");
        expect_eq(103, fstat_of(fd).st_size, "size after truncate and append");
        expect_text("end", pread_some(fd, 10, 100), "appended bytes");
        expect_ok(ftruncate(fd, 0), "ftruncate");
    }
}

// A reader that follows the file never sees anything but whole prefixes.
void reader_follows() {
    std::string data = pattern(400000, 9);
    close(open_or_fail("f", O_WRONLY | O_CREAT));
    pid_t writer = spawn([&] {
        int fd = open_or_fail("f", O_WRONLY | O_APPEND);
        for (size_t at = 0; at < data.size(); at += 1000) {
            write_all(fd, std::string_view(data).substr(at, 1000));
        }
    });
    int fd = open_or_fail("f", O_RDONLY);
    std::string seen;
    while (seen.size() < data.size()) {
        std::string part = pread_some(fd, 65536, static_cast<off_t>(seen.size()));
        expect_text(
            std::string_view(data).substr(seen.size(), part.size()), part, "bytes that appeared");
        seen += part;
    }
    join(writer);
}

}  // namespace

void add_append_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"append/several_processes", several_processes},
                     {"append/with_fsync", with_fsync},
                     {"append/with_reopen", with_reopen},
                     {"append/two_descriptors", two_descriptors},
                     {"append/append_beside_plain_writer", append_beside_plain_writer},
                     {"append/append_and_truncate", append_and_truncate},
                     {"append/reader_follows", reader_follows},
                 });
}

}  // namespace lumeofs::conformance
