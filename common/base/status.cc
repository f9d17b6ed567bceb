// SPDX-License-Identifier: Apache-2.0
#include "common/base/status.h"

#include <array>
#include <utility>

namespace lumeofs {
namespace {

struct Row {
    Errc code;
    const char* name;
    bool retryable;
};

constexpr std::array kRows = {
    Row{Errc::ok, "ok", false},
    Row{Errc::perm, "perm", false},
    Row{Errc::noent, "noent", false},
    Row{Errc::intr, "intr", false},
    Row{Errc::io, "io", false},
    Row{Errc::nxio, "nxio", false},
    Row{Errc::toobig, "toobig", false},
    Row{Errc::badf, "badf", false},
    Row{Errc::again, "again", false},
    Row{Errc::nomem, "nomem", false},
    Row{Errc::acces, "acces", false},
    Row{Errc::fault, "fault", false},
    Row{Errc::exist, "exist", false},
    Row{Errc::xdev, "xdev", false},
    Row{Errc::nodev, "nodev", false},
    Row{Errc::notdir, "notdir", false},
    Row{Errc::isdir, "isdir", false},
    Row{Errc::inval, "inval", false},
    Row{Errc::nfile, "nfile", false},
    Row{Errc::mfile, "mfile", false},
    Row{Errc::notty, "notty", false},
    Row{Errc::txtbsy, "txtbsy", false},
    Row{Errc::fbig, "fbig", false},
    Row{Errc::nospc, "nospc", false},
    Row{Errc::spipe, "spipe", false},
    Row{Errc::rofs, "rofs", false},
    Row{Errc::mlink, "mlink", false},
    Row{Errc::range, "range", false},
    Row{Errc::deadlk, "deadlk", false},
    Row{Errc::nametoolong, "nametoolong", false},
    Row{Errc::nolck, "nolck", false},
    Row{Errc::nosys, "nosys", false},
    Row{Errc::notempty, "notempty", false},
    Row{Errc::loop, "loop", false},
    Row{Errc::nodata, "nodata", false},
    Row{Errc::overflow, "overflow", false},
    Row{Errc::opnotsupp, "opnotsupp", false},
    Row{Errc::timedout, "timedout", false},
    Row{Errc::stale, "stale", false},
    Row{Errc::dquot, "dquot", false},
    Row{Errc::canceled, "canceled", false},
    Row{Errc::not_leader, "not_leader", true},
    Row{Errc::unavailable, "unavailable", true},
    Row{Errc::timeout, "timeout", true},
    Row{Errc::disconnected, "disconnected", true},
    Row{Errc::stale_epoch, "stale_epoch", false},
    Row{Errc::newer_epoch, "newer_epoch", false},
    Row{Errc::corrupt, "corrupt", false},
    Row{Errc::busy, "busy", true},
    Row{Errc::no_session, "no_session", false},
    Row{Errc::fenced, "fenced", false},
    Row{Errc::not_member, "not_member", false},
    Row{Errc::conflict, "conflict", false},
    Row{Errc::recall, "recall", true},
    Row{Errc::protocol, "protocol", false},
    Row{Errc::poisoned, "poisoned", false},
    Row{Errc::gap, "gap", false},
    Row{Errc::not_inline, "not_inline", false},
    Row{Errc::config, "config", false},
    Row{Errc::shutting_down, "shutting_down", true},
    Row{Errc::not_found, "not_found", false},
    Row{Errc::superseded, "superseded", false},
};

const Row* find(uint16_t number) {
    for (const Row& row : kRows) {
        if (static_cast<uint16_t>(row.code) == number) return &row;
    }
    return nullptr;
}

}  // namespace

std::string errc_name(Errc code) {
    const Row* row = find(static_cast<uint16_t>(code));
    return row ? row->name : "errc_" + std::to_string(static_cast<uint16_t>(code));
}

bool errc_known(uint16_t number) { return find(number) != nullptr; }

bool errc_retryable(Errc code) {
    const Row* row = find(static_cast<uint16_t>(code));
    return row && row->retryable;
}

Status::Status(Errc code, std::string_view text) : code_(code) {
    if (code != Errc::ok && !text.empty()) text_ = std::make_shared<const std::string>(text);
}

std::string Status::to_string() const {
    std::string out = errc_name(code_);
    if (text_) {
        out += ": ";
        out += *text_;
    }
    return out;
}

Status Status::with_context(std::string_view prefix) const {
    if (is_ok()) return *this;
    std::string joined(prefix);
    if (text_) {
        joined += ": ";
        joined += *text_;
    }
    return Status(code_, joined);
}

}  // namespace lumeofs
