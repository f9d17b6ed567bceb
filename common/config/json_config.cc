// SPDX-License-Identifier: Apache-2.0
#include "common/config/json_config.h"

#include <fmt/format.h>

#include <deque>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

namespace lumeofs {

namespace {

using Json = nlohmann::json;
constexpr uint64_t kMaxConfigBytes = 1u << 20;

std::string shown(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    return text;
}

}  // namespace

// One JSON object that was handed out, and which of its keys were asked for.
struct JsonConfig::Node {
    const Json* object;  // null: the section is absent
    std::string path;    // "log." before the keys of section log
    std::set<std::string, std::less<>> known;

    const Json* ask(std::string_view key) {
        known.emplace(key);
        if (object == nullptr) return nullptr;
        auto it = object->find(std::string(key));
        return it == object->end() ? nullptr : &*it;
    }
};

struct JsonConfig::File {
    std::string name;
    Json root;
    std::deque<Node> nodes;  // stable addresses, in the order in which they were handed out
    Status error;

    void wrong(const Node& node, std::string_view key, const Json& value, std::string_view allowed) {
        if (!error.is_ok()) return;
        error = Status(Errc::config,
                       fmt::format("{}: \"{}{}\": {} is not allowed; allowed is {}",
                                   name,
                                   node.path,
                                   key,
                                   shown(value),
                                   allowed));
    }
    void missing(const Node& node, std::string_view key, std::string_view allowed) {
        if (!error.is_ok()) return;
        error = Status(
            Errc::config,
            fmt::format("{}: \"{}{}\" is missing; it must be {}", name, node.path, key, allowed));
    }
};

Result<JsonConfig> JsonConfig::load(FileSystem& fs, const std::string& path) {
    auto bytes = read_file(fs, path, kMaxConfigBytes);
    if (!bytes.is_ok()) {
        return Status(Errc::config, path + ": cannot be read: " + bytes.status().to_string());
    }
    return parse(as_text(bytes.value()), path);
}

Result<JsonConfig> JsonConfig::parse(std::string_view text, std::string file_name) {
    auto file = std::make_shared<File>();
    file->name = std::move(file_name);
    std::string twice;
    std::vector<std::set<std::string>> keys;
    auto watch = [&](int /*depth*/, Json::parse_event_t event, Json& parsed) {
        if (event == Json::parse_event_t::object_start) keys.emplace_back();
        if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
        if (event == Json::parse_event_t::key && !keys.empty()) {
            const std::string key = parsed.get<std::string>();
            if (!keys.back().insert(key).second && twice.empty()) twice = key;
        }
        return true;
    };
    file->root = Json::parse(text, watch, false);
    if (file->root.is_discarded()) {
        return Status(Errc::config, file->name + ": is not valid JSON");
    }
    if (!file->root.is_object()) {
        return Status(Errc::config, file->name + ": must be one JSON object");
    }
    if (!twice.empty()) {
        return Status(Errc::config, fmt::format("{}: \"{}\" stands there twice", file->name, twice));
    }
    file->nodes.push_back(Node{&file->root, "", {}});
    Node* root = &file->nodes.back();
    return JsonConfig(std::move(file), root);
}

bool JsonConfig::has(std::string_view key) const {
    return node_->object != nullptr && node_->object->contains(std::string(key));
}

uint64_t JsonConfig::number(std::string_view key, uint64_t fallback, uint64_t low, uint64_t high) {
    const Json* value = node_->ask(key);
    if (value == nullptr) return fallback;
    if (value->is_number_unsigned()) {
        const uint64_t found = value->get<uint64_t>();
        if (found >= low && found <= high) return found;
    }
    file_->wrong(*node_, key, *value, fmt::format("a whole number from {} to {}", low, high));
    return fallback;
}

bool JsonConfig::flag(std::string_view key, bool fallback) {
    const Json* value = node_->ask(key);
    if (value == nullptr) return fallback;
    if (value->is_boolean()) return value->get<bool>();
    file_->wrong(*node_, key, *value, "true or false");
    return fallback;
}

std::string JsonConfig::text(std::string_view key, std::string fallback) {
    const Json* value = node_->ask(key);
    if (value == nullptr) return fallback;
    if (value->is_string()) return value->get<std::string>();
    file_->wrong(*node_, key, *value, "a text");
    return fallback;
}

std::string JsonConfig::choice(std::string_view key,
                               std::string fallback,
                               std::initializer_list<std::string_view> allowed) {
    const Json* value = node_->ask(key);
    if (value == nullptr) return fallback;
    std::string list;
    for (std::string_view one : allowed) {
        if (value->is_string() && value->get<std::string>() == one) return std::string(one);
        if (!list.empty()) list += ", ";
        list += fmt::format("\"{}\"", one);
    }
    file_->wrong(*node_, key, *value, (allowed.size() > 1 ? "one of " : "") + list);
    return fallback;
}

std::vector<std::string> JsonConfig::texts(std::string_view key) {
    const Json* value = node_->ask(key);
    std::vector<std::string> found;
    if (value == nullptr) return found;
    if (value->is_string()) return {value->get<std::string>()};
    bool fits = value->is_array();
    if (fits) {
        for (const Json& one : *value) {
            fits = fits && one.is_string();
            if (one.is_string()) found.push_back(one.get<std::string>());
        }
    }
    if (fits) return found;
    file_->wrong(*node_, key, *value, "a text or a list of texts");
    return {};
}

uint64_t JsonConfig::required_number(std::string_view key, uint64_t low, uint64_t high) {
    if (!has(key)) {
        node_->known.emplace(key);
        file_->missing(*node_, key, fmt::format("a whole number from {} to {}", low, high));
        return low;
    }
    return number(key, low, low, high);
}

std::string JsonConfig::required_text(std::string_view key) {
    if (!has(key)) {
        node_->known.emplace(key);
        file_->missing(*node_, key, "a text");
        return "";
    }
    std::string found = text(key, "");
    if (found.empty()) refuse(key, "a text that is not empty");
    return found;
}

std::vector<std::string> JsonConfig::required_texts(std::string_view key) {
    if (!has(key)) {
        node_->known.emplace(key);
        file_->missing(*node_, key, "a text or a list of texts");
        return {};
    }
    std::vector<std::string> found = texts(key);
    bool fits = !found.empty();
    for (const std::string& one : found) fits = fits && !one.empty();
    if (!fits) refuse(key, "a text that is not empty, or a list of such");
    return found;
}

JsonConfig JsonConfig::section(std::string_view key) {
    const Json* value = node_->ask(key);
    if (value != nullptr && !value->is_object()) {
        file_->wrong(*node_, key, *value, "an object in braces");
        value = nullptr;
    }
    file_->nodes.push_back(Node{value, fmt::format("{}{}.", node_->path, key), {}});
    return JsonConfig(file_, &file_->nodes.back());
}

std::vector<JsonConfig> JsonConfig::sections(std::string_view key) {
    const Json* value = node_->ask(key);
    std::vector<JsonConfig> found;
    if (value == nullptr) return found;
    bool fits = value->is_array();
    for (size_t i = 0; fits && i < value->size(); ++i) fits = (*value)[i].is_object();
    if (!fits) {
        file_->wrong(*node_, key, *value, "a list of objects in braces");
        return found;
    }
    for (size_t i = 0; i < value->size(); ++i) {
        file_->nodes.push_back(Node{&(*value)[i], fmt::format("{}{}[{}].", node_->path, key, i), {}});
        found.push_back(JsonConfig(file_, &file_->nodes.back()));
    }
    return found;
}

void JsonConfig::refuse(std::string_view key, std::string_view allowed) {
    const Json* value = node_->ask(key);
    if (value == nullptr) {
        file_->missing(*node_, key, allowed);
    } else {
        file_->wrong(*node_, key, *value, allowed);
    }
}

Status JsonConfig::finish() const {
    if (!file_->error.is_ok()) return file_->error;
    for (const Node& node : file_->nodes) {
        if (node.object == nullptr) continue;
        for (const auto& [key, value] : node.object->items()) {
            if (node.known.contains(key)) continue;
            std::string allowed;
            for (const std::string& one : node.known) {
                allowed += (allowed.empty() ? "" : ", ") + one;
            }
            return Status(Errc::config,
                          fmt::format("{}: \"{}{}\": {} is an unknown key; allowed are: {}",
                                      file_->name,
                                      node.path,
                                      key,
                                      shown(value),
                                      allowed));
        }
    }
    return Status();
}

}  // namespace lumeofs
