// SPDX-License-Identifier: Apache-2.0
// mount.fuse.lumeofs: what mount(8) runs for `mount -t fuse.lumeofs SOURCE DIR -o OPTIONS` and for
// fstab lines. Translates the helper's command line and becomes lumeofs-fuse, which stands beside
// it, in ../bin or in LUMEO_BINDIR. Runs as root: nothing of the environment is looked at but PATH
// for children.
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

// `place` beside the directory that we are in; symbolic links to us are followed first.
std::string beside_us(const char* place) {
    char path[PATH_MAX];
    const ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size <= 0) return "";
    path[size] = '\0';
    char* slash = std::strrchr(path, '/');
    if (!slash) return "";
    *slash = '\0';
    return std::string(path) + place;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> places;
    std::string options;
    bool fake = false;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if ((arg == "-o" || arg == "-t" || arg == "-N") && i + 1 < argc) {
            const std::string value = argv[++i];
            if (arg == "-o") options += (options.empty() ? "" : ",") + value;
        } else if (arg.size() > 1 && arg[0] == '-') {
            for (char flag : arg.substr(1)) {
                if (flag == 'f') fake = true;
                if (flag == 'r') options += (options.empty() ? "ro" : ",ro");
                if (std::strchr("fnrsvw", flag) == nullptr) {
                    std::fprintf(
                        stderr, "mount.fuse.lumeofs: unknown argument '%s'\n", arg.c_str());
                    return 1;
                }
            }
        } else {
            places.push_back(arg);
        }
    }
    if (places.size() != 2) {
        std::fprintf(stderr, "usage: mount.fuse.lumeofs SOURCE DIR [-o OPTIONS]\n");
        return 1;
    }
    if (fake) return 0;
    std::string program = LUMEO_BINDIR "/lumeofs-fuse";
    for (const char* place : {"/../bin/lumeofs-fuse", "/lumeofs-fuse"}) {
        const std::string near = beside_us(place);
        if (!near.empty() && access(near.c_str(), X_OK) == 0) program = near;
    }
    std::vector<std::string> words = {program, places[0], places[1]};
    if (!options.empty()) {
        words.push_back("-o");
        words.push_back(options);
    }
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    char* environment[] = {path, nullptr};
    execve(program.c_str(), pointers.data(), environment);
    std::fprintf(
        stderr, "mount.fuse.lumeofs: cannot run %s: %s\n", program.c_str(), strerror(errno));
    return 32;
}
