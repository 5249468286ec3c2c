#include "src/memory/proc_text.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <system_error>

namespace xlstm {

std::optional<std::string> read_kernel_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad()) return std::nullopt;
  return text;
}

std::vector<std::string_view> words_of(std::string_view line) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<std::string_view> words;
  while (true) {
    const size_t begin = line.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const size_t end = line.find_first_of(kSpace);
    words.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return words;
    line.remove_prefix(end);
  }
}

std::optional<uint64_t> parse_count(std::string_view text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || parsed != end) return std::nullopt;
  return value;
}

std::optional<uint64_t> find_bytes(std::string_view text, std::string_view key) {
  std::optional<uint64_t> found;
  for_each_line(text, [&](std::string_view line) {
    if (found || !line.starts_with(key)) return;
    const std::vector<std::string_view> words = words_of(line);
    if (words.size() < 2 || words[0] != key) return;
    found = parse_count(words[1]);
    if (found && words.size() > 2 && words[2] == "kB") *found *= 1024;
  });
  return found;
}

}  // namespace xlstm
