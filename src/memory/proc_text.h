// Small text files of the Linux kernel: /proc and control groups.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace xlstm {

// Nothing if the file cannot be read.
[[nodiscard]] std::optional<std::string> read_kernel_file(const std::filesystem::path& path);

// Non-empty words between spaces and tabs.
[[nodiscard]] std::vector<std::string_view> words_of(std::string_view line);

// Calls visit(line) for each line.
template <class Visit>
void for_each_line(std::string_view text, const Visit& visit) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    visit(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

// A decimal number that fills the whole text; nothing for anything else ("max", "unlimited", "-1").
[[nodiscard]] std::optional<uint64_t> parse_count(std::string_view text);

// The number behind a line's first word `key` ("MemTotal:", "inactive_file"), times 1024 if "kB" follows.
[[nodiscard]] std::optional<uint64_t> find_bytes(std::string_view text, std::string_view key);

}  // namespace xlstm
