#include "src/cli/memory_message.h"

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

// The words between `before` and `after`; empty if the text does not have both.
std::string_view between(std::string_view text, std::string_view before, std::string_view after) {
  const size_t begin = text.find(before);
  if (begin == std::string_view::npos) return {};
  text.remove_prefix(begin + before.size());
  const size_t end = text.find(after);
  return end == std::string_view::npos ? std::string_view() : text.substr(0, end);
}

}  // namespace

bool is_about_memory(std::string_view message) {
  return message.find("can't allocate memory") != std::string_view::npos ||
         message.find("out of memory") != std::string_view::npos;
}

// A CPU: "… you tried to allocate 123 bytes. …". CUDA: "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a
// total capacity of 139.80 GiB of which 5.19 MiB is free. …"
std::string memory_message(std::string_view message) {
  const std::string_view asked = between(message, "ried to allocate ", ". ");
  const std::string_view free = between(message, " of which ", " is free");
  const std::string_view total = between(message, "total capacity of ", " of which ");
  std::string got = asked.empty() ? "none" : cat("none for ", asked);
  if (!free.empty() && !total.empty()) got += cat("; ", free, " of the device's ", total, " are free");
  return format_error("memory", "libtorch", "room for the tensors of this run", got);
}

}  // namespace xlstm
