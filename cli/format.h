// SPDX-License-Identifier: Apache-2.0
// Text for people: sizes and small tables. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lumeofs::cli {

// "0 B", "1.5 GiB"
std::string size_text(uint64_t bytes);
// Columns as wide as needed, two spaces between; the first row is the heading.
std::string table_text(const std::vector<std::vector<std::string>>& rows);

}  // namespace lumeofs::cli
