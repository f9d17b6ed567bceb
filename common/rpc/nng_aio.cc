// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/nng_aio.h"

#include <nng/nng.h>

#include <algorithm>
#include <utility>

#include "common/base/assert.h"
#include "common/base/log.h"

namespace lumeofs {
namespace {

// The hub whose callback this thread is in: such a thread may run the task that ends the transport.
thread_local const NngHub* t_callback_of = nullptr;

}  // namespace

// --- NngHub ---------------------------------------------------------------------------------------

uint64_t NngHub::next_id() {
    std::lock_guard lock(mutex_);
    return ++last_id_;
}

void NngHub::add(uint64_t id, std::weak_ptr<NngClosable> part) {
    std::lock_guard lock(mutex_);
    parts_.emplace(id, std::move(part));
}

void NngHub::remove(uint64_t id) {
    std::lock_guard lock(mutex_);
    parts_.erase(id);
}

void NngHub::operation_began() {
    std::lock_guard lock(mutex_);
    ++operations_;
}

void NngHub::operation_ended() {
    std::lock_guard lock(mutex_);
    --operations_;
    idle_.notify_all();
}

void NngHub::shut_and_wait() {
    gone_ = true;
    std::vector<std::shared_ptr<NngClosable>> parts;
    {
        std::lock_guard lock(mutex_);
        for (auto& [id, part] : parts_) {
            if (auto alive = part.lock()) parts.push_back(std::move(alive));
        }
    }
    for (auto& part : parts) part->shut();
    const int own = t_callback_of == this ? 1 : 0;
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return operations_ <= own; });
}

void NngHub::complain(const std::string& line) {
    const Nanos now = loop.now();
    lines_paid_until_ = std::max(lines_paid_until_, now);
    if (lines_paid_until_ - now > kLinesAtOnce * kSecond) {
        ++suppressed_;
        return;
    }
    lines_paid_until_ += kSecond;
    const uint64_t more = std::exchange(suppressed_, 0);
    if (more > 0) {
        LFS_LOG(warn, "{} ({} similar lines left out)", line, more);
    } else {
        LFS_LOG(warn, "{}", line);
    }
}

// --- NngAio ---------------------------------------------------------------------------------------

NngAio::NngAio(std::shared_ptr<NngHub> hub, Handler handler)
    : hub_(std::move(hub)), handler_(std::move(handler)) {
    LFS_ASSERT(nng_aio_alloc(&aio_, &NngAio::callback, this) == 0);  // fails for want of memory only
}

NngAio::~NngAio() { nng_aio_reap(aio_); }

void NngAio::begin(std::shared_ptr<void> owner, Nanos timeout) {
    LFS_ASSERT(!busy_ && !hub_->gone());
    busy_ = true;
    owner_ = std::move(owner);
    nng_duration limit = NNG_DURATION_INFINITE;
    if (timeout > 0) {
        const Nanos ms = (timeout + kMillisecond - 1) / kMillisecond;
        limit = static_cast<nng_duration>(std::min<Nanos>(ms, 1'000'000'000));
    }
    nng_aio_set_timeout(aio_, limit);
    hub_->operation_began();
}

NngTrySend::NngTrySend() { LFS_ASSERT(nng_aio_alloc(&aio_, nullptr, nullptr) == 0); }

NngTrySend::~NngTrySend() { nng_aio_free(aio_); }

size_t NngTrySend::send(nng_stream* stream, const nng_iov* parts, size_t count) {
    nng_aio_set_timeout(aio_, NNG_DURATION_INFINITE);
    if (nng_aio_set_iov(aio_, static_cast<unsigned>(count), const_cast<nng_iov*>(parts)) != 0) {
        return 0;
    }
    nng_stream_send(stream, aio_);
    nng_aio_cancel(aio_);  // does nothing to what is done
    nng_aio_wait(aio_);
    return nng_aio_result(aio_) == 0 ? nng_aio_count(aio_) : 0;
}

void NngAio::callback(void* arg) {
    auto* self = static_cast<NngAio*>(arg);
    const int rv = nng_aio_result(self->aio_);
    const size_t count = nng_aio_count(self->aio_);
    NngStreamPtr stream;
    if (rv == 0) {
        if (auto* made = static_cast<nng_stream*>(nng_aio_get_output(self->aio_, 0))) {
            stream = NngStreamPtr(made, nng_stream_free);
        }
    }
    auto owner = std::move(self->owner_);
    auto hub = self->hub_;
    const NngHub* outer = std::exchange(t_callback_of, hub.get());
    hub->loop.post([self, owner = std::move(owner), rv, count, stream = std::move(stream)] {
        self->busy_ = false;
        self->handler_(rv, count, stream);
    });
    // From here on `self` may be gone: the task has run and dropped the owner.
    t_callback_of = outer;
    hub->operation_ended();
}

}  // namespace lumeofs
