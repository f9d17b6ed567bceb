// SPDX-License-Identifier: Apache-2.0
// JsonConfig: strict reading of a JSON configuration file, the same for every program.
//
// A program asks for each key that it knows, with the type, the bounds and the default; finish()
// then gives the first thing that was wrong, or the first key that nobody asked for. Every error is
// one line: the file, the key (with its path), the value found and what is allowed. Errors are
// Errc::config; programs exit with kExitConfig.
//
//     LFS_ASSIGN(auto json, JsonConfig::load(fs, path));
//     config.port = json.number("port", 9100, 0, 65535);
//     auto log = json.section("log");
//     config.level = log.choice("level", "info", {"trace", "debug", "info", "warn", "error"});
//     LFS_TRY(json.finish());
//
// A getter that meets a wrong value remembers the error and returns the default, so that a reader is
// straight code. Sections share the error and are part of what finish() checks.
// Guarded by its owner; copies share their state.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs {

inline constexpr int kExitConfig = 78;  // EX_CONFIG of sysexits.h

class JsonConfig {
public:
    // Errc::config if it cannot be read, is not JSON, has a key twice or is not an object.
    static Result<JsonConfig> load(FileSystem& fs, const std::string& path);
    static Result<JsonConfig> parse(std::string_view text, std::string file_name);

    bool has(std::string_view key) const;

    // Absent: the default. Present: must have the type and keep the bounds (both ends included).
    uint64_t number(std::string_view key, uint64_t fallback, uint64_t low, uint64_t high);
    bool flag(std::string_view key, bool fallback);
    std::string text(std::string_view key, std::string fallback);
    // One of the texts in `allowed`.
    std::string choice(std::string_view key,
                       std::string fallback,
                       std::initializer_list<std::string_view> allowed);
    // A list of texts, or one text alone (a list of one).
    std::vector<std::string> texts(std::string_view key);
    // As number(), text(), texts(), but the key must be there (and the texts not be empty).
    uint64_t required_number(std::string_view key, uint64_t low, uint64_t high);
    std::string required_text(std::string_view key);
    std::vector<std::string> required_texts(std::string_view key);
    // An object; empty if absent.
    JsonConfig section(std::string_view key);
    // A list of objects; empty if absent.
    std::vector<JsonConfig> sections(std::string_view key);

    // For rules of the program's own: remembers that the value of `key` is not allowed.
    void refuse(std::string_view key, std::string_view allowed);
    // The first error of this file, else the first key that was never asked for, else ok.
    Status finish() const;

private:
    struct File;
    struct Node;
    JsonConfig(std::shared_ptr<File> file, Node* node) : file_(std::move(file)), node_(node) {}

    std::shared_ptr<File> file_;
    Node* node_;  // owned by *file_
};

}  // namespace lumeofs
