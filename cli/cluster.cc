// SPDX-License-Identifier: Apache-2.0
#include "cli/cluster.h"

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/admin_client.h"
#include "cli/dev_layout.h"
#include "cli/format.h"

namespace lumeofs::cli {
namespace {

using nlohmann::json;

constexpr uint32_t kPage = 1'000;

int complain(const Status& status) {
    std::fprintf(stderr, "lumeofs: %s\n", std::string(status.text()).c_str());
    return status.code() == Errc::unavailable ? kExitUnreachable : 1;
}

std::string text_of(const json& row, const char* key) {
    if (!row.is_object() || !row.contains(key)) return "-";
    const json& value = row[key];
    return value.is_string() ? value.get<std::string>() : value.dump();
}
uint64_t number_of(const json& row, const char* key) {
    const bool there = row.is_object() && row.contains(key) && row[key].is_number();
    return there ? row[key].get<uint64_t>() : 0;
}
json part_of(const json& row, const char* key) {
    return row.is_object() && row.contains(key) ? row[key] : json();
}

Result<json> ask(const ClusterOptions& options, const Question& question) {
    LFS_ASSIGN(auto metads, metads_to_ask(options));
    AdminClient admin(metads);
    LFS_ASSIGN(auto text, admin.ask(question));
    json answer = json::parse(text, nullptr, false);
    if (answer.is_discarded()) return Status(Errc::corrupt, "the leader's answer is no JSON");
    return answer;
}

std::string dumped(const json& value) {
    return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

std::string nodes_table(const json& nodes) {
    std::vector<std::vector<std::string>> rows = {
        {"NODE", "ADDRESS", "STATE", "FREE", "TOTAL", "CHUNKS", "SILENT MS"}};
    for (const json& node : nodes) {
        rows.push_back({text_of(node, "node"),
                        text_of(node, "address"),
                        text_of(node, "state"),
                        size_text(number_of(node, "free_bytes")),
                        size_text(number_of(node, "total_bytes")),
                        text_of(node, "chunks"),
                        text_of(node, "silent_ms")});
    }
    return table_text(rows);
}

std::string members_text(const json& chunk) {
    std::string text;
    for (const json& member : part_of(chunk, "members")) {
        text += (text.empty() ? "" : " ") + text_of(member, "node");
        if (text_of(member, "state") != "online") text += "(" + text_of(member, "state") + ")";
    }
    return text.empty() ? "-" : text;
}

std::string chunks_table(const json& chunks) {
    std::vector<std::vector<std::string>> rows = {
        {"CHUNK", "INODE", "INDEX", "EPOCH", "LENGTH", "WANTED", "NODES"}};
    for (const json& chunk : chunks) {
        rows.push_back({text_of(chunk, "chunk"),
                        text_of(chunk, "inode"),
                        text_of(chunk, "index"),
                        text_of(chunk, "epoch"),
                        size_text(number_of(chunk, "length")),
                        text_of(chunk, "wanted"),
                        members_text(chunk)});
    }
    return table_text(rows);
}

std::vector<std::string> raft_row(const json& raft) {
    return {text_of(raft, "node"),
            text_of(raft, "role"),
            text_of(raft, "term"),
            text_of(raft, "leader"),
            text_of(raft, "commit_index"),
            text_of(raft, "applied_index"),
            text_of(raft, "last_index"),
            text_of(raft, "trouble")};
}

// Asks for a list and shows it as a table, or as the JSON that came.
int show_list(const ClusterOptions& options,
              const Question& question,
              std::string (*show)(const json&)) {
    auto answer = ask(options, question);
    if (!answer) return complain(answer.status());
    print(options.json ? dumped(*answer) : show(*answer));
    return 0;
}

std::string sessions_table(const json& sessions) {
    std::vector<std::vector<std::string>> rows = {
        {"SESSION", "HOST", "MOUNT", "STATE", "CONNECTED", "OPEN FILES", "SILENT MS"}};
    for (const json& session : sessions) {
        rows.push_back({text_of(session, "session"),
                        text_of(session, "host"),
                        text_of(session, "mount"),
                        text_of(session, "state"),
                        text_of(session, "connected"),
                        text_of(session, "open_files"),
                        text_of(session, "silent_ms")});
    }
    return table_text(rows);
}

}  // namespace

Result<std::vector<std::string>> parse_metads(const std::string& text) {
    std::vector<std::string> metads;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(',', at), text.size());
        std::string one = text.substr(at, end - at);
        at = end + 1;
        const size_t colon = one.rfind(':');
        uint32_t port = 9100;
        bool good = !one.empty() && colon != 0;
        if (good && colon != std::string::npos) {
            const char* last = one.data() + one.size();
            const auto parsed = std::from_chars(one.data() + colon + 1, last, port);
            good = parsed.ec == std::errc() && parsed.ptr == last && port >= 1 && port <= 65535;
        }
        if (!good) {
            return Status(Errc::config,
                          "--metads '" + text + "': HOST:PORT,HOST:PORT… is expected");
        }
        metads.push_back(one.substr(0, colon) + ":" + std::to_string(port));
    }
    return metads;
}

Result<std::vector<std::string>> metads_to_ask(const ClusterOptions& options) {
    if (!options.metads.empty()) return options.metads;
    const std::string dir = options.dir.empty() ? default_dev_dir() : absolute_path(options.dir);
    auto shape = load_shape(dir);
    if (shape) return metads_of(*shape);
    if (shape.code() != Errc::noent) return shape.status();
    return Status(Errc::unavailable,
                  "which cluster? Give --metads HOST:PORT,… or set LUMEOFS_METADS (there is no "
                  "local cluster in " +
                      dir + ")");
}

int show_status(const ClusterOptions& options) {
    auto answer = ask(options, {.what = "status"});
    if (!answer) return complain(answer.status());
    const json& status = *answer;
    const std::string health = text_of(status, "health");
    const int exit_status = health == "healthy" ? 0 : 1;
    if (options.json) {
        print(dumped(status));
        return exit_status;
    }
    print(health + "\n");
    for (const json& problem : part_of(status, "problems")) {
        if (problem.is_string()) print("  ! " + problem.get<std::string>() + "\n");
    }
    const json raft = part_of(status, "raft");
    const json capacity = part_of(status, "capacity");
    const json chunks = part_of(status, "chunks");
    print("leader    metad " + text_of(raft, "leader") + ", term " + text_of(raft, "term") +
          ", committed " + text_of(raft, "commit_index") + "\n");
    print("space     " + size_text(number_of(capacity, "free_bytes")) + " free of " +
          size_text(number_of(capacity, "total_bytes")) + "\n");
    print("files     " + text_of(status, "files") + " with " +
          size_text(number_of(status, "bytes")) + "\n");
    print("chunks    " + text_of(chunks, "total") + ", under-replicated " +
          text_of(chunks, "under_replicated") + ", unreadable " + text_of(chunks, "unreadable") +
          "\n");
    print("sessions  " + text_of(status, "sessions") + "\n\n");
    print(nodes_table(part_of(status, "chunkds")));
    return exit_status;
}

int show_nodes(const ClusterOptions& options) {
    return show_list(options, {.what = "nodes"}, nodes_table);
}

int show_sessions(const ClusterOptions& options) {
    return show_list(options, {.what = "sessions"}, sessions_table);
}

int show_chunks(const ClusterOptions& options) {
    json all = json::array();
    uint64_t cursor = 0;
    do {
        auto answer = ask(
            options, {.what = "chunks", .node = options.node, .cursor = cursor, .limit = kPage});
        if (!answer) return complain(answer.status());
        for (const json& chunk : part_of(*answer, "chunks")) all.push_back(chunk);
        const uint64_t next = number_of(*answer, "next_cursor");
        cursor = next > cursor ? next : 0;
    } while (cursor != 0);
    print(options.json ? dumped(all) : chunks_table(all));
    return 0;
}

int show_file(const ClusterOptions& options) {
    auto answer = ask(options, {.what = "file", .path = options.path});
    if (!answer) return complain(answer.status());
    if (options.json) {
        print(dumped(*answer));
        return 0;
    }
    char mode[16];
    std::snprintf(mode, sizeof mode, "%06o", static_cast<unsigned>(number_of(*answer, "mode")));
    print(text_of(*answer, "path") + ": inode " + text_of(*answer, "inode") + ", mode " + mode +
          ", " + text_of(*answer, "size") + " bytes (" +
          size_text(number_of(*answer, "allocated")) + " allocated), links " +
          text_of(*answer, "nlink") + (part_of(*answer, "inline") == true ? ", inline" : "") +
          (part_of(*answer, "open") == true ? ", open" : "") + "\n");
    const json chunks = part_of(*answer, "chunks");
    if (!chunks.empty()) print(chunks_table(chunks));
    return 0;
}

int show_raft(const ClusterOptions& options) {
    auto metads = metads_to_ask(options);
    if (!metads) return complain(metads.status());
    std::vector<OneAnswer> answers;
    {
        AdminClient admin(*metads);
        answers = admin.ask_each({.what = "raft"});
    }
    std::vector<std::vector<std::string>> rows = {
        {"METAD", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "LAST", "TROUBLE"}};
    json all = json::array();
    size_t heard = 0;
    for (const OneAnswer& answer : answers) {
        const json raft = json::parse(answer.text, nullptr, false);
        if (!answer.status.is_ok() || !raft.is_object()) {
            rows.push_back({answer.address, "unreachable: " + answer.status.to_string()});
            all.push_back({{"address", answer.address}, {"error", answer.status.to_string()}});
            continue;
        }
        ++heard;
        rows.push_back(raft_row(raft));
        all.push_back(raft);
        all.back()["address"] = answer.address;
    }
    print(options.json ? dumped(all) : table_text(rows));
    return heard == answers.size() ? 0 : heard > 0 ? 1 : kExitUnreachable;
}

}  // namespace lumeofs::cli
