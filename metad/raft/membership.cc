// SPDX-License-Identifier: Apache-2.0
#include "metad/raft/membership.h"

#include <algorithm>

#include "common/base/assert.h"

namespace lumeofs::raft {

namespace {

constexpr uint8_t kFormatRevision = 1;

template <typename T>
void put(Bytes& out, T value) {
    const size_t at = out.size();
    out.resize(at + sizeof value);
    put_le(out.data() + at, value);
}

// Takes a value off the front; false if there are not enough bytes.
template <typename T>
bool take(View& bytes, T& value) {
    if (bytes.size() < sizeof value) return false;
    value = get_le<T>(bytes.data());
    bytes = bytes.subspan(sizeof value);
    return true;
}

}  // namespace

const Member* Membership::find(NodeId id) const {
    for (const Member& member : members) {
        if (member.id == id) return &member;
    }
    return nullptr;
}

bool Membership::is_voter(NodeId id) const {
    const Member* member = find(id);
    return member != nullptr && member->role == MemberRole::voter;
}

std::vector<NodeId> Membership::voters() const {
    std::vector<NodeId> ids;
    for (const Member& member : members) {
        if (member.role == MemberRole::voter) ids.push_back(member.id);
    }
    return ids;
}

Bytes encode_membership(const Membership& membership) {
    LFS_ASSERT(membership.members.size() <= kMaxMembers);
    Bytes out;
    put(out, kFormatRevision);
    put(out, static_cast<uint16_t>(membership.members.size()));
    for (const Member& member : membership.members) {
        LFS_ASSERT(member.address.size() <= kMaxAddressBytes);
        put(out, member.id.value);
        put(out, static_cast<uint8_t>(member.role));
        put(out, static_cast<uint16_t>(member.address.size()));
        out.insert(out.end(), member.address.begin(), member.address.end());
    }
    return out;
}

Result<Membership> decode_membership(View bytes) {
    const Status bad(Errc::corrupt, "membership entry does not decode");
    uint8_t revision = 0;
    uint16_t count = 0;
    if (!take(bytes, revision) || revision != kFormatRevision) return bad;
    if (!take(bytes, count) || count > kMaxMembers) return bad;
    Membership membership;
    for (uint16_t i = 0; i < count; ++i) {
        Member member;
        uint8_t role = 0;
        uint16_t length = 0;
        if (!take(bytes, member.id.value) || !take(bytes, role) || !take(bytes, length)) return bad;
        if (!member.id || role > static_cast<uint8_t>(MemberRole::learner)) return bad;
        if (length > kMaxAddressBytes || bytes.size() < length) return bad;
        if (!membership.members.empty() && membership.members.back().id >= member.id) return bad;
        member.role = static_cast<MemberRole>(role);
        member.address = std::string(as_text(bytes.first(length)));
        bytes = bytes.subspan(length);
        membership.members.push_back(std::move(member));
    }
    if (!bytes.empty()) return bad;
    return membership;
}

Result<Membership> change_membership(const Membership& now, const MembershipProposed& change) {
    using Kind = MembershipProposed::Kind;
    Membership next = now;
    auto found = std::find_if(next.members.begin(), next.members.end(), [&](const Member& member) {
        return member.id == change.member.id;
    });
    const bool known = found != next.members.end();
    switch (change.kind) {
        case Kind::add_voter:
        case Kind::add_learner: {
            if (known) return Status(Errc::inval, "this node is already a member");
            if (!change.member.id) return Status(Errc::inval, "node id 0");
            if (change.member.address.size() > kMaxAddressBytes) {
                return Status(Errc::inval, "address too long");
            }
            if (next.members.size() >= kMaxMembers) return Status(Errc::inval, "too many members");
            Member member = change.member;
            member.role = change.kind == Kind::add_voter ? MemberRole::voter : MemberRole::learner;
            auto at = std::find_if(next.members.begin(), next.members.end(), [&](const Member& m) {
                return m.id > member.id;
            });
            next.members.insert(at, std::move(member));
            break;
        }
        case Kind::promote:
            if (!known || found->role != MemberRole::learner) {
                return Status(Errc::inval, "this node is not a learner");
            }
            found->role = MemberRole::voter;
            break;
        case Kind::remove:
            if (!known) return Status(Errc::inval, "this node is not a member");
            next.members.erase(found);
            break;
    }
    if (next.voters().empty()) return Status(Errc::inval, "the last voter must stay");
    return next;
}

}  // namespace lumeofs::raft
