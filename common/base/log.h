// SPDX-License-Identifier: Apache-2.0
// Logging: spdlog behind one header, so that spdlog is compiled in one place only.
//
//     LFS_LOG(warn, "chunkd {} has not answered for {} ms", node, ms);
//
// Formats with fmt. Thread-safe. In the simulator a hook takes the lines instead (see set_log_hook).
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>
#include <string_view>

namespace lumeofs {

enum class LogLevel : int { trace = 0, debug = 1, info = 2, warn = 3, error = 4, off = 6 };

struct LogOptions {
    LogLevel level = LogLevel::info;
    std::string file;        // "" = stderr
    bool json = false;       // one JSON object per line
    std::string program;     // stands in every line
};

void init_log(const LogOptions& options);
void set_log_level(LogLevel level);
// Closes and opens the log file again (SIGUSR1 after logrotate).
void reopen_log();
// All lines go to `hook` instead; an empty one restores the log. Not thread-safe: tests only.
void set_log_hook(std::function<void(LogLevel, std::string_view)> hook);
// "trace", "debug", "info", "warn", "error", "off"; false if it is none of them.
bool parse_log_level(std::string_view text, LogLevel* level);

bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view line);

}  // namespace lumeofs

#define LFS_LOG(level, ...)                                                             \
    do {                                                                                \
        if (::lumeofs::log_enabled(::lumeofs::LogLevel::level)) {                       \
            ::lumeofs::log_line(::lumeofs::LogLevel::level, fmt::format(__VA_ARGS__));  \
        }                                                                               \
    } while (false)
