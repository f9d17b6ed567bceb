// SPDX-License-Identifier: Apache-2.0
// Listing directories: whole, large, while they change, by several readers, with telldir/seekdir.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <set>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

DIR* open_dir(const char* path) {
    DIR* dir = opendir(path);
    expect_ok(dir != nullptr ? 0 : -1, "opendir");
    return dir;
}

void make_files(const std::string& dir, int count, const std::string& prefix = "f") {
    for (int i = 0; i < count; ++i) {
        close(open_or_fail(dir + "/" + prefix + std::to_string(i), O_WRONLY | O_CREAT));
    }
}

void numbers_and_types() {
    make_dir("d");
    write_file("d/file", "");
    make_dir("d/dir");
    expect_ok(symlink("x", "d/link"), "symlink");
    expect_ok(mkfifo("d/fifo", 0644), "mkfifo");
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "d/socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    expect_ok(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
    std::map<std::string, int> types{{".", DT_DIR},
                                     {"..", DT_DIR},
                                     {"file", DT_REG},
                                     {"dir", DT_DIR},
                                     {"link", DT_LNK},
                                     {"fifo", DT_FIFO},
                                     {"socket", DT_SOCK}};
    DIR* dir = open_dir("d");
    size_t seen = 0;
    while (dirent* entry = readdir(dir)) {
        std::string name = entry->d_name;
        expect(types.contains(name), "the entry " + name + " is known");
        expect_eq(types[name], entry->d_type, "d_type of " + name);
        expect_eq(static_cast<long long>(lstat_of("d/" + name).st_ino),
                  static_cast<long long>(entry->d_ino),
                  "d_ino of " + name);
        ++seen;
    }
    expect_eq(
        static_cast<long long>(types.size()), static_cast<long long>(seen), "number of entries");
    closedir(dir);
}

void empty_and_errors() {
    make_dir("d");
    expect_eq(0, static_cast<long long>(list_dir("d").size()), "entries of an empty directory");
    write_file("f", "");
    expect_errno(ENOTDIR, opendir("f") == nullptr ? -1 : 0, "opendir of a file");
    expect_errno(ENOENT, opendir("x") == nullptr ? -1 : 0, "opendir of a missing directory");
    DIR* dir = open_dir("d");
    expect_ok(rmdir("d"), "rmdir");
    while (dirent* entry = readdir(dir)) {
        std::string name = entry->d_name;
        expect(name == "." || name == "..", "a removed directory lists nothing but . and ..");
    }
    closedir(dir);
}

void ten_thousand() {
    make_dir("d");
    make_files("d", 10000);
    std::vector<std::string> names = list_dir("d");
    expect_eq(10000, static_cast<long long>(names.size()), "entries");
    expect_eq(10000,
              static_cast<long long>(std::set<std::string>(names.begin(), names.end()).size()),
              "different entries");
    for (int i = 0; i < 10000; i += 2) {
        expect_ok(unlink(("d/f" + std::to_string(i)).c_str()), "unlink");
    }
    names = list_dir("d");
    expect_eq(5000, static_cast<long long>(names.size()), "entries after removing half");
    for (const std::string& name : names) {
        expect_eq(1, (name.back() - '0') % 2, "only odd ones are left: last digit of " + name);
        expect_ok(unlink(("d/" + name).c_str()), "unlink");
    }
    expect_ok(rmdir("d"), "rmdir");
}

// What `rm -r` does: each entry removed as it is read.
void remove_while_reading() {
    make_dir("d");
    make_files("d", 3000);
    DIR* dir = open_dir("d");
    int removed = 0;
    while (dirent* entry = readdir(dir)) {
        if (entry->d_name[0] == 'f') {
            expect_ok(unlinkat(dirfd(dir), entry->d_name, 0), "unlink of a listed entry");
            ++removed;
        }
    }
    closedir(dir);
    expect_eq(3000, removed, "entries seen and removed");
    expect_ok(rmdir("d"), "rmdir");
}

// Entries there all the time are listed exactly once, whatever comes and goes beside them.
void stable_entries_once() {
    make_dir("d");
    make_files("d", 1500, "stay");
    make_files("d", 500, "go");
    DIR* dir = open_dir("d");
    std::map<std::string, int> seen;
    int step = 0;
    while (dirent* entry = readdir(dir)) {
        ++seen[entry->d_name];
        if (step < 500) {
            expect_ok(unlink(("d/go" + std::to_string(step)).c_str()), "unlink");
            close(open_or_fail("d/new" + std::to_string(step), O_WRONLY | O_CREAT));
        }
        ++step;
    }
    closedir(dir);
    for (int i = 0; i < 1500; ++i) {
        expect_eq(1,
                  seen["stay" + std::to_string(i)],
                  "times that stay" + std::to_string(i) + " was listed");
    }
    for (const auto& [name, times] : seen) {
        expect(times <= 1, name + " is listed at most once");
    }
    expect_eq(2000, static_cast<long long>(list_dir("d").size()), "entries at the end");
}

void tell_and_seek() {
    make_dir("d");
    make_files("d", 500);
    DIR* dir = open_dir("d");
    std::vector<std::pair<long, std::string>> places;
    while (true) {
        long place = telldir(dir);
        dirent* entry = readdir(dir);
        if (entry == nullptr) {
            break;
        }
        places.emplace_back(place, entry->d_name);
    }
    expect_eq(502, static_cast<long long>(places.size()), "entries");
    for (size_t i = places.size(); i-- > 0;) {
        seekdir(dir, places[i].first);
        dirent* entry = readdir(dir);
        expect(entry != nullptr, "an entry is there after seekdir");
        expect_text(places[i].second, entry->d_name, "entry after seekdir");
    }
    // A place stays good although entries before it go away.
    size_t middle = 250;
    for (size_t i = 0; i < 200; ++i) {
        (void)unlinkat(dirfd(dir), places[i].second.c_str(), 0);
    }
    seekdir(dir, places[middle].first);
    dirent* entry = readdir(dir);
    expect(entry != nullptr, "an entry is there after seekdir and removals");
    expect_text(places[middle].second, entry->d_name, "entry after seekdir and removals");
    closedir(dir);
}

void rewind_sees_changes() {
    make_dir("d");
    make_files("d", 3);
    DIR* dir = open_dir("d");
    while (readdir(dir) != nullptr) {
    }
    write_file("d/late", "");
    expect_ok(unlink("d/f0"), "unlink");
    rewinddir(dir);
    std::set<std::string> names;
    while (dirent* entry = readdir(dir)) {
        names.insert(entry->d_name);
    }
    expect(names.contains("late"), "a new entry is listed after rewinddir");
    expect(!names.contains("f0"), "a removed entry is not listed after rewinddir");
    closedir(dir);
}

void two_streams() {
    make_dir("d");
    make_files("d", 400);
    DIR* a = open_dir("d");
    DIR* b = open_dir("d");
    size_t of_a = 0;
    size_t of_b = 0;
    while (readdir(a) != nullptr) {
        ++of_a;
        if (of_a % 2 == 0 && readdir(b) != nullptr) {
            ++of_b;
        }
    }
    while (readdir(b) != nullptr) {
        ++of_b;
    }
    expect_eq(402, static_cast<long long>(of_a), "entries of the first stream");
    expect_eq(402, static_cast<long long>(of_b), "entries of the second stream");
    closedir(a);
    closedir(b);
}

void created_by_several_processes() {
    make_dir("d");
    std::vector<pid_t> pids;
    for (int p = 0; p < 4; ++p) {
        pids.push_back(spawn([p] { make_files("d", 250, "p" + std::to_string(p) + "."); }));
    }
    join_all(pids);
    expect_eq(1000, static_cast<long long>(list_dir("d").size()), "entries");
}

void listed_at_once_after_change() {
    make_dir("d");
    for (int i = 0; i < 100; ++i) {
        write_file("d/" + std::to_string(i), "");
        expect_eq(i + 1, static_cast<long long>(list_dir("d").size()), "entries after a create");
    }
    for (int i = 0; i < 100; ++i) {
        expect_ok(unlink(("d/" + std::to_string(i)).c_str()), "unlink");
        expect_eq(99 - i, static_cast<long long>(list_dir("d").size()), "entries after an unlink");
    }
}

void long_names() {
    make_dir("d");
    std::set<std::string> names;
    for (int i = 0; i < 300; ++i) {
        std::string number = std::to_string(i);
        std::string name = number + std::string(255 - number.size(), 'n');
        names.insert(name);
        write_file("d/" + name, "");
    }
    std::vector<std::string> found = list_dir("d");
    expect(names == std::set<std::string>(found.begin(), found.end()),
           "all 300 long names are listed");
}

}  // namespace

void add_readdir_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"readdir/numbers_and_types", numbers_and_types},
                     {"readdir/empty_and_errors", empty_and_errors},
                     {"readdir/ten_thousand", ten_thousand},
                     {"readdir/remove_while_reading", remove_while_reading},
                     {"readdir/stable_entries_once", stable_entries_once},
                     {"readdir/tell_and_seek", tell_and_seek},
                     {"readdir/rewind_sees_changes", rewind_sees_changes},
                     {"readdir/two_streams", two_streams},
                     {"readdir/created_by_several_processes", created_by_several_processes},
                     {"readdir/listed_at_once_after_change", listed_at_once_after_change},
                     {"readdir/long_names", long_names},
                 });
}

}  // namespace lumeofs::conformance
