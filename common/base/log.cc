// SPDX-License-Identifier: Apache-2.0
#include "common/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <mutex>

namespace lumeofs {
namespace {

struct LogState {
    std::mutex mutex;
    LogOptions options;
    std::shared_ptr<spdlog::logger> logger;
    std::function<void(LogLevel, std::string_view)> hook;
};

LogState& state() {
    static LogState* instance = new LogState;
    return *instance;
}

std::atomic<int> g_level{static_cast<int>(LogLevel::warn)};

std::shared_ptr<spdlog::logger> make_logger(const LogOptions& options) {
    std::shared_ptr<spdlog::sinks::sink> sink;
    if (options.file.empty()) {
        sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
        sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file);
    }
    auto logger = std::make_shared<spdlog::logger>(options.program, sink);
    logger->set_level(spdlog::level::trace);
    logger->flush_on(spdlog::level::info);
    if (options.json) {
        logger->set_pattern(
            R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","program":"%n","message":%v})");
    } else {
        logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %L %n %v");
    }
    return logger;
}

std::string json_quoted(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte < 0x20) {
            out += fmt::format("\\u{:04x}", byte);
        } else {
            out += c;
        }
    }
    out += '"';
    return out;
}

}  // namespace

void init_log(const LogOptions& options) {
    auto logger = make_logger(options);
    std::lock_guard lock(state().mutex);
    state().options = options;
    state().logger = std::move(logger);
    g_level = static_cast<int>(options.level);
}

void set_log_level(LogLevel level) { g_level = static_cast<int>(level); }

void reopen_log() {
    LogOptions options;
    {
        std::lock_guard lock(state().mutex);
        options = state().options;
    }
    options.level = static_cast<LogLevel>(g_level.load());
    init_log(options);
}

void set_log_hook(std::function<void(LogLevel, std::string_view)> hook) {
    std::lock_guard lock(state().mutex);
    state().hook = std::move(hook);
}

bool parse_log_level(std::string_view text, LogLevel* level) {
    constexpr std::pair<std::string_view, LogLevel> kNames[] = {
        {"trace", LogLevel::trace}, {"debug", LogLevel::debug}, {"info", LogLevel::info},
        {"warn", LogLevel::warn},   {"error", LogLevel::error}, {"off", LogLevel::off}};
    for (const auto& [name, value] : kNames) {
        if (name == text) {
            *level = value;
            return true;
        }
    }
    return false;
}

bool log_enabled(LogLevel level) {
    return static_cast<int>(level) >= g_level.load(std::memory_order_relaxed);
}

void log_line(LogLevel level, std::string_view line) {
    std::shared_ptr<spdlog::logger> logger;
    bool json = false;
    {
        std::lock_guard lock(state().mutex);
        if (state().hook) {
            state().hook(level, line);
            return;
        }
        if (!state().logger) state().logger = make_logger(state().options);
        logger = state().logger;
        json = state().options.json;
    }
    auto spd_level = static_cast<spdlog::level::level_enum>(level);
    if (json) {
        logger->log(spd_level, "{}", json_quoted(line));
    } else {
        logger->log(spd_level, "{}", line);
    }
}

}  // namespace lumeofs
