// SPDX-License-Identifier: Apache-2.0
// Request: one FUSE request on its way. It is answered exactly once; one that goes out of scope
// unanswered is answered EIO and logged, because an application would hang for ever otherwise.
// Move-only by shared_ptr; single-thread: the loop, which also reads /dev/fuse.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "client/vfs.h"
#include "fuse/convert.h"
#include "fuse/errno_map.h"

namespace lumeofs::fusefs {

class Session;

class Request {
public:
    Request(Session& session, fuse_req_t req, const char* name);
    ~Request();
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

    Session& session() { return session_; }
    const client::Caller& caller() const { return caller_; }
    fuse_req_t raw() const { return req_; }

    void error(const Status& status);
    void ok() { error(Status()); }
    void none();
    void entry(const client::Attr& attr);
    void attr(const client::Attr& attr);
    void opened(const client::Opened& opened, fuse_file_info info);
    void created(const client::Opened& opened, fuse_file_info info);
    void written(uint64_t count);
    void bytes(View data);
    void data(const client::ReadData& data);
    void text(const std::string& text);
    void size(size_t size);
    void offset(uint64_t offset);
    void statfs(const client::StatFs& info);

private:
    friend class Session;
    fuse_req_t take();  // for the answer; asserts that there was none yet

    Session& session_;
    fuse_req_t req_;
    const char* name_;
    client::Caller caller_;
};

using RequestPtr = std::shared_ptr<Request>;

// For operations without a value, and those with one: `[r](auto& value) { r->entry(value); }`.
inline client::StatusDone done_status(RequestPtr request) {
    return [request = std::move(request)](const Status& status) { request->error(status); };
}
template <typename T, typename F>
client::Done<T> done_with(RequestPtr request, F answer) {
    return [request = std::move(request), answer = std::move(answer)](Result<T> result) {
        if (!result) {
            request->error(result.status());
        } else {
            answer(*request, *result);
        }
    };
}

// For operations that name an inode, not a name: that it is gone means that whoever looked it up was
// late (another rename or unlink won). ESTALE makes the kernel walk the path again; ENOENT would make
// an open fail whose name exists all the time, as when a file is replaced by rename.
template <typename T, typename F>
client::Done<T> done_with_inode(RequestPtr request, F answer) {
    return [request = std::move(request), answer = std::move(answer)](Result<T> result) {
        if (!result) {
            const bool gone = result.code() == Errc::noent;
            request->error(gone ? Status(Errc::stale) : result.status());
        } else {
            answer(*request, *result);
        }
    };
}

}  // namespace lumeofs::fusefs
