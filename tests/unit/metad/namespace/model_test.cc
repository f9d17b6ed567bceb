// SPDX-License-Identifier: Apache-2.0
// Random operations against a small reference file system in memory; the same log on a second
// machine, in other batches and with restarts, must give the same digest (I4).
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "common/base/prng.h"
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

namespace {

// What POSIX says, as simply as it can be said.
struct Model {
    struct Node {
        bool dir = false;
        std::map<std::string, int> names;
        std::string data;
        int links = 0;
        int parent = 0;
    };
    std::map<int, Node> nodes;
    int next = 1;

    Model() { nodes[0] = {true, {}, "", 1, 0}; }
    bool above(int ancestor, int dir) const {
        for (; dir != ancestor; dir = nodes.at(dir).parent) {
            if (dir == 0) return false;
        }
        return true;
    }
    void drop(int id) {
        if (--nodes[id].links == 0) nodes.erase(id);
    }
    Errc make(int parent, const std::string& name, bool dir, int* id) {
        if (nodes[parent].names.count(name)) return Errc::exist;
        *id = next++;
        nodes[*id] = {dir, {}, "", 1, parent};
        nodes[parent].names[name] = *id;
        return Errc::ok;
    }
    Errc link(int id, int parent, const std::string& name) {
        if (nodes[parent].names.count(name)) return Errc::exist;
        if (nodes[id].dir) return Errc::perm;
        nodes[parent].names[name] = id;
        ++nodes[id].links;
        return Errc::ok;
    }
    Errc unlink(int parent, const std::string& name, bool dir) {
        auto& names = nodes[parent].names;
        if (!names.count(name)) return Errc::noent;
        const int id = names[name];
        if (!dir && nodes[id].dir) return Errc::isdir;
        if (dir && !nodes[id].dir) return Errc::notdir;
        if (dir && !nodes[id].names.empty()) return Errc::notempty;
        names.erase(name);
        drop(id);
        return Errc::ok;
    }
    Errc rename(int from, const std::string& a, int to, const std::string& b, uint32_t flags) {
        if (!nodes[from].names.count(a)) return Errc::noent;
        const int id = nodes[from].names[a];
        const bool there = nodes[to].names.count(b) != 0;
        const int old = there ? nodes[to].names[b] : 0;
        if (flags == 1 && there) return Errc::exist;
        if (flags == 2 && !there) return Errc::noent;
        if (there && old == id) return Errc::ok;
        if (nodes[id].dir && above(id, to)) return Errc::inval;
        if (flags == 2) {
            if (nodes[old].dir && above(old, from)) return Errc::inval;
            std::swap(nodes[from].names[a], nodes[to].names[b]);
            nodes[id].parent = to;
            nodes[old].parent = from;
            return Errc::ok;
        }
        if (there) {
            if (nodes[old].dir && above(old, from)) return Errc::notempty;
            if (nodes[id].dir && !nodes[old].dir) return Errc::notdir;
            if (!nodes[id].dir && nodes[old].dir) return Errc::isdir;
            if (!nodes[old].names.empty()) return Errc::notempty;
        }
        nodes[from].names.erase(a);
        nodes[to].names[b] = id;
        nodes[id].parent = to;
        if (there) drop(old);
        return Errc::ok;
    }
};

// Drives machine and model alike.
class Pair {
public:
    explicit Pair(uint64_t seed) : prng_(seed) { ino_[0] = kRoot; }

    void step() {
        fs.slot = static_cast<uint32_t>(prng_.below(8));
        switch (prng_.below(12)) {
            case 0:
            case 1:
            case 2:
                return make();
            case 3:
                return link();
            case 4:
            case 5:
                return unlink();
            case 6:
            case 7:
            case 8:
                return rename();
            case 9:
                return write();
            case 10:
                return truncate();
            default:
                return chunks();
        }
    }
    void compare() {
        for (const auto& [id, node] : model_.nodes) {
            const wire::AttrT attr = fs.attr(ino_[id]);
            REQUIRE(attr.ino == ino_[id]);
            uint32_t links = static_cast<uint32_t>(node.links);
            if (node.dir) {
                links = 2;
                for (const auto& entry : node.names)
                    links += model_.nodes[entry.second].dir ? 1 : 0;
                std::vector<std::string> want;
                for (const auto& entry : node.names) want.push_back(entry.first);
                std::vector<std::string> got = fs.names(ino_[id], 1);
                std::sort(got.begin(), got.end());
                CHECK(got == want);
            } else {
                CHECK(attr.size == node.data.size());
                if (attr.is_inline) CHECK(fs.data(ino_[id]) == node.data);
            }
            CHECK(attr.nlink == links);
        }
        CHECK(fs.sm->totals().inodes == model_.nodes.size());
    }

    Cluster fs;

private:
    int any(bool dir) {
        std::vector<int> found;
        for (const auto& [id, node] : model_.nodes) {
            if (node.dir == dir) found.push_back(id);
        }
        return found.empty() ? -1 : found[prng_.below(found.size())];
    }
    std::string name() { return "n" + std::to_string(prng_.below(6)); }
    void same(const wire::MetaReplyT& reply, Errc want) {
        CHECK(errc_name(errc(reply)) == errc_name(want));
    }

    void make() {
        const int parent = any(true);
        const std::string n = name();
        const bool dir = prng_.chance(1, 3);
        int id = -1;
        const Errc want = model_.make(parent, n, dir, &id);
        auto reply = fs.make(ino_[parent], n, dir ? S_IFDIR | 0755 : S_IFREG | 0644);
        same(reply, want);
        if (want == Errc::ok) ino_[id] = reply.attr->ino;
    }
    void link() {
        const int id = prng_.chance(1, 8) ? any(true) : any(false);
        if (id < 0) return;
        const int parent = any(true);
        const std::string n = name();
        same(fs.link(ino_[id], ino_[parent], n), model_.link(id, parent, n));
    }
    void unlink() {
        const int parent = any(true);
        const std::string n = name();
        const bool dir = prng_.chance(1, 3);
        same(fs.unlink(ino_[parent], n, dir), model_.unlink(parent, n, dir));
    }
    void rename() {
        const int from = any(true);
        const int to = prng_.chance(1, 3) ? from : any(true);
        const std::string a = name();
        const std::string b = name();
        const auto flags = static_cast<uint32_t>(prng_.chance(1, 2) ? 0 : prng_.below(3));
        same(fs.rename(ino_[from], a, ino_[to], b, flags), model_.rename(from, a, to, b, flags));
    }
    void write() {
        const int id = any(false);
        if (id < 0) return;
        std::string& data = model_.nodes[id].data;
        const uint64_t offset = prng_.below(300);
        const std::string text(prng_.below(50), static_cast<char>('a' + prng_.below(26)));
        const auto grower = fs.sm->grower(InodeId{ino_[id]});
        auto reply = fs.write_inline(ino_[id], offset, text);
        if (grower && grower->moving_out) return same(reply, Errc::conflict);  // our own move-out
        if (!fs.attr(ino_[id]).is_inline) return same(reply, Errc::not_inline);
        same(reply, Errc::ok);
        if (text.empty()) return;
        if (data.size() < offset + text.size()) data.resize(offset + text.size(), '\0');
        data.replace(offset, text.size(), text);
    }
    void truncate() {
        const int id = any(false);
        if (id < 0) return;
        const uint64_t size = prng_.below(400);
        same(fs.truncate(ino_[id], size), Errc::ok);
        model_.nodes[id].data.resize(size, '\0');
    }
    // Moves a file out of the database now and then, grows, ends or forgets to end.
    void chunks() {
        const int id = any(false);
        if (id < 0 || !prng_.chance(1, 3)) return;
        std::string& data = model_.nodes[id].data;
        auto reply = fs.allocate(ino_[id], static_cast<uint32_t>(prng_.below(3)), 2);
        REQUIRE(reply.errc == 0);
        if (prng_.chance(1, 4)) return;
        const uint64_t size = data.size() + prng_.below(3);
        same(fs.commit(ino_[id], size, prng_.chance(1, 2), fs.attr(ino_[id]).is_inline), Errc::ok);
        data.resize(size, '\0');
    }

    Prng prng_;
    Model model_;
    std::map<int, uint64_t> ino_;
};

// The same commands in batches of random size, on a file, with restarts in between.
uint64_t replay(const std::vector<Bytes>& log, uint64_t seed) {
    char folder[] = "/tmp/lumeofs-model-XXXXXX";
    REQUIRE(mkdtemp(folder) != nullptr);
    StateMachineOptions options;
    options.path = std::string(folder) + "/meta.db";
    Machine other(options);
    Prng prng(seed);
    size_t at = 0;
    while (at < log.size()) {
        const size_t count = std::min<size_t>(1 + prng.below(300), log.size() - at);
        std::vector<View> batch(log.begin() + static_cast<std::ptrdiff_t>(at),
                                log.begin() + static_cast<std::ptrdiff_t>(at + count));
        REQUIRE(other.sm->apply(LogIndex{at + 1}, batch).is_ok());
        at += count;
        if (prng.chance(1, 10)) REQUIRE(other.sm->checkpoint().is_ok());
        if (prng.chance(1, 10)) other.reopen();
    }
    other.check();
    const uint64_t digest = other.digest();
    other.sm.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    return digest;
}

}  // namespace

TEST_CASE("model: random operations agree with a reference, and replays agree with each other") {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(seed);
        Pair pair(seed);
        for (int i = 0; i < 6000; ++i) {
            pair.step();
            if (i % 1500 == 1499) {
                pair.compare();
                pair.fs.check();
            }
        }
        CHECK(replay(pair.fs.log, seed) == pair.fs.digest());
    }
}

TEST_CASE("digest: any difference in any table shows") {
    Cluster a;
    Cluster b;
    CHECK(a.digest() == b.digest());
    CHECK(a.sm->history() == b.sm->history());
    a.file(kRoot, "f");
    b.file(kRoot, "g");
    CHECK(a.digest() != b.digest());
    CHECK(a.sm->history() == b.sm->history());  // the answers were the same
    b.mutate(wire::SetAttrT());
    a.mutate(wire::LinkT());
    CHECK(a.digest() != b.digest());
}

}  // namespace lumeofs::metad
