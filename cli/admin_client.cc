// SPDX-License-Identifier: Apache-2.0
#include "cli/admin_client.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "cli/process.h"
#include "common/env/real_loop.h"
#include "common/rpc/nng_transport.h"
#include "common/rpc/peer.h"
#include "common/wire/codec.h"
#include "common/wire/frame.h"
#include "common/wire/messages.h"
#include "common/wire/method.h"

namespace lumeofs::cli {
namespace {

// One round: the same question to several addresses. Lives on the loop, kept alive by its callbacks
// until the last of them has come.
struct Round : std::enable_shared_from_this<Round> {
    std::mutex mutex;  // guards answers, left, decided
    std::condition_variable changed;
    std::vector<OneAnswer> answers;
    size_t left = 0;
    bool decided = false;  // the leader has spoken
    bool first_is_enough = false;
    std::vector<std::shared_ptr<RpcPeer>> peers;  // the loop's

    void answer(size_t index, Status status, std::string text) {
        std::lock_guard lock(mutex);
        const Errc code = status.code();
        answers[index].status = std::move(status);
        answers[index].text = std::move(text);
        --left;
        // Anything that is not about who may answer is the leader's word.
        const bool final =
            code == Errc::ok || code == Errc::noent || code == Errc::inval || code == Errc::notdir;
        if (final && first_is_enough) decided = true;
        changed.notify_all();
    }
};

Bytes encoded(const Question& question) {
    wire::AdminRequestT request;
    request.what = question.what;
    request.path = question.path;
    request.node = question.node;
    request.chunk = question.chunk;
    request.cursor = question.cursor;
    request.limit = question.limit;
    return wire::encode<wire::AdminRequest>(request);
}

void ask_one(Loop& loop,
             Transport& transport,
             const std::shared_ptr<Round>& round,
             size_t index,
             Bytes body,
             Nanos deadline) {
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = Role::admin;
    auto connected = [&loop, round, index, body, deadline](Result<std::shared_ptr<Link>> link) {
        if (!link) return round->answer(index, link.status(), "");
        auto peer = RpcPeer::create(loop, *link, {});
        round->peers.push_back(peer);
        const Nanos left = std::max<Nanos>(deadline - loop.now(), kMillisecond);
        peer->call(
            static_cast<uint16_t>(Method::admin), body, {}, left, [round, index](RpcReply reply) {
                round->answer(
                    index, std::move(reply.status), std::string(as_text(reply.payload.view())));
            });
    };
    transport.connect(round->answers[index].address, hello, deadline, std::move(connected));
}

std::string reason(const OneAnswer& answer) {
    if (answer.status.code() == Errc::not_leader) return "is not the leader";
    const std::string text(answer.status.text());
    return text.empty() ? errc_name(answer.status.code()) : text;
}

Status unreachable(const std::vector<OneAnswer>& answers) {
    std::string text;
    for (const OneAnswer& answer : answers) {
        text += (text.empty() ? "" : "; ") + answer.address + ": " + reason(answer);
    }
    return Status(Errc::unavailable, "no metad leader could be asked (" + text + ")");
}

}  // namespace

struct AdminClient::Running {
    RealLoop loop;
    NngTransport transport{loop};
};

AdminClient::AdminClient(std::vector<std::string> metads)
    : metads_(std::move(metads)), running_(std::make_unique<Running>()) {}

AdminClient::~AdminClient() { running_->loop.stop(); }

std::vector<OneAnswer> AdminClient::ask_these(const std::vector<std::string>& addresses,
                                              const Question& question,
                                              Nanos deadline,
                                              bool first_is_enough) {
    auto round = std::make_shared<Round>();
    round->first_is_enough = first_is_enough;
    round->left = addresses.size();
    for (const std::string& address : addresses) {
        round->answers.push_back({address, Status(Errc::timeout, "no answer in time"), ""});
    }
    const Bytes body = encoded(question);
    running_->loop.run_and_wait([&] {
        for (size_t i = 0; i < addresses.size(); ++i) {
            ask_one(running_->loop, running_->transport, round, i, body, deadline);
        }
    });
    std::vector<OneAnswer> answers;
    {
        std::unique_lock lock(round->mutex);
        round->changed.wait(lock, [&] { return round->left == 0 || round->decided; });
        answers = round->answers;
    }
    running_->loop.run_and_wait([&] {
        for (auto& peer : round->peers) peer->close();
        round->peers.clear();
    });
    return answers;
}

Result<std::string> AdminClient::ask(const Question& question, Nanos patience) {
    const Nanos deadline = time_now() + patience;
    std::vector<std::string> addresses = metads_;
    for (;;) {
        const auto answers = ask_these(addresses, question, deadline, true);
        bool someone_lives = false;
        for (const OneAnswer& answer : answers) {
            const Errc code = answer.status.code();
            if (code == Errc::ok) return answer.text;
            if (code == Errc::noent || code == Errc::inval || code == Errc::notdir) {
                return answer.status;
            }
            someone_lives |= code == Errc::not_leader || code == Errc::unavailable;
            if (code != Errc::not_leader) continue;
            const std::string leader(answer.status.text());
            const bool known =
                std::find(addresses.begin(), addresses.end(), leader) != addresses.end();
            if (leader.find(':') != std::string::npos && !known) addresses.push_back(leader);
        }
        const bool more = addresses.size() > answers.size();
        if (!someone_lives || time_now() + 200 * kMillisecond > deadline) {
            return unreachable(answers);
        }
        if (!more) look_again_later(100 * kMillisecond);
    }
}

std::vector<OneAnswer> AdminClient::ask_each(const Question& question, Nanos patience) {
    return ask_these(metads_, question, time_now() + patience, false);
}

}  // namespace lumeofs::cli
